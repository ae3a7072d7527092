"""Who is calling and what they may do: tokens, the endpoints that give them, roles.

tokens.py    principals, and the signed tokens that name them
login.py     Entra's endpoints for operators and service principals
imds.py      the instance metadata service for operators and nodes
graph.py     as much of Microsoft Graph as role assignments need
roles.py     the built-in role definitions
access.py    decides by role assignments
"""
