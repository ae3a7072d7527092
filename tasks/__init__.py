"""One Prefect task per step: the policy in the decorator, the mechanism in the body."""
