#!/bin/bash
# List every collection of a GeoCatalog, as one JSON document on standard output.
#
# Runs alone on a Batch node; needs curl and jq or python3, and takes its token from az where that is there.
# Environment: GEOCATALOG_URL (without /stac), GEOCATALOG_API_VERSION, AZURE_CLIENT_ID (the node identity's) and, where
# it is not the public cloud's, GEOCATALOG_SCOPE; READ_TIMEOUT_SECONDS, 60 by default. Prints {"collections": [...]}; on
# failure nothing but a sentence on standard error.
#
# Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 the GeoCatalog refused it
# (401, 403); 5 the answer is none that a STAC catalog gives; 6 out of reach, or unavailable after all attempts.
set -euo pipefail
umask 077
export LC_ALL=C.UTF-8

readonly attempts=10 deadline_seconds=900 read_seconds=${READ_TIMEOUT_SECONDS:-60}
readonly transient_curl_codes=' 0 5 6 7 16 18 28 35 52 55 56 92 ' # names, connections, time, torn answers
readonly unprintable=$'\x01-\x1f\x7f-\u9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Services repeat what they were sent: no signature of a SAS and no access token gets into the log, and nothing that a
# terminal would obey: control characters, other directions of writing, what has no width.
note() {
  printf 'list_collections: %s\n' "${*//[$unprintable]/?}" |
    sed -E "s/(\\bsig=)[^&[:space:]\"'<>\\]+/\1(secret)/Ig; s/\\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)*/(secret)/g" >&2
}

fail() {
  note "${*:2}"
  exit "$1"
}

one_line() { head -c 500 | tr -s '[:space:]' ' '; }

# jq before 1.7 rounds numbers beyond 2^53; python3 passes on the text as it was sent.
json_reader() {
  if [[ $(jq -c . <<<'[12345678901234567890]' 2>/dev/null) == '[12345678901234567890]' ]]; then
    echo jq
  elif command -v python3 >/dev/null; then
    echo python3
  elif command -v jq >/dev/null; then
    echo jq
  else
    fail 2 "neither jq nor python3 is on this node; the pool's start task installs jq"
  fi
}

# Checks a page and prints how many collections it has, then where the next page is (nothing on the last).
jq_page() {
  jq -rs 'if length != 1 then error("not one document") else .[0] end
    | if all(.collections[]; .type == "Collection" and (.id | type) == "string") then . else error("no Collection") end
    | if (.collections | type) == "array" then . else error("no array") end
    | (.collections | length), ([.links // [] | .[] | select(.rel == "next") | .href | strings][0] // "")' "$1"
}

# Prints the document; a collection that comes twice (the catalog changed meanwhile) counts as it came last.
jq_document() {
  jq -cs 'reduce .[].collections[] as $one ({}; .[$one.id] = $one) | {collections: [.[]]}' "$@"
}

python3_page() { python3 -I -c "$python_reader" page "$1"; }
python3_document() { python3 -I -c "$python_reader" document "$@"; }

readonly python_reader='
import json, re, sys

decode, token = json.JSONDecoder().raw_decode, re.compile(r"[^\s,:]")

def collections(text):
    skip = lambda position: token.search(text, position).start()
    position = skip(text.index("{") + 1)
    while (key := decode(text, position))[0] != "collections":
        position = skip(decode(text, skip(key[1]))[1])
    position = skip(text.index("[", key[1]) + 1)
    while text[position] != "]":
        entry, end = decode(text, position)
        yield entry["id"], text[position:end]
        position = skip(end)

def check(page):
    if not isinstance(page["collections"], list):
        raise ValueError("not a list")
    for entry in page["collections"]:
        if entry["type"] != "Collection" or not isinstance(entry["id"], str):
            raise ValueError("not a Collection with an id")
    following = [link["href"] for link in page.get("links") or [] if link.get("rel") == "next"]
    return "%d\n%s\n" % (len(page["collections"]), following[0] if following else "")

texts = [open(name, encoding="utf-8-sig").read() for name in sys.argv[2:]]
if sys.argv[1] == "page":
    answer = check(json.loads(texts[0]))
else:
    found = {name: raw for text in texts for name, raw in collections(text)}
    answer = "{\"collections\": [" + ",\n".join(found.values()) + "]}\n"
sys.stdout.buffer.write(answer.encode())
'

check_environment() {
  local name pattern='^(https://[[:alnum:]_.-]+|http://(localhost|127\.0\.0\.1))(:[0-9]+)?(/[^@?#[:space:]\\]*)?$'
  for name in GEOCATALOG_URL GEOCATALOG_API_VERSION AZURE_CLIENT_ID; do
    [[ -n ${!name:-} ]] || fail 2 "$name not set; set what the head of this script lists"
  done
  root=${GEOCATALOG_URL%/}
  [[ $root =~ $pattern ]] || fail 2 "GEOCATALOG_URL must be an https address without user or query, not $root"
  scope=${GEOCATALOG_SCOPE:-https://geocatalog.spatio.azure.com/.default}
}

# The token goes through files that only this user reads: arguments show in ps.
keep_token() {
  [[ -n $1 ]] || return 1
  printf 'Authorization: Bearer %s\n' "$1" >"$work/authorization"
}

token_from_az() {
  local id_flag
  command -v az >/dev/null || return 1
  export AZURE_CONFIG_DIR=${AZURE_CONFIG_DIR:-$work/azure} # tasks of one node would share the one in HOME
  for id_flag in --client-id --username; do                # --username before Azure CLI 2.69
    timeout 120 az login --identity "$id_flag" "$AZURE_CLIENT_ID" --allow-no-subscriptions >"$work/login" 2>&1 && break
  done || { note "az login failed, asking the identity endpoint: $(one_line <"$work/login")"; return 1; }
  keep_token "$(timeout 120 az account get-access-token --resource "${scope%/.default}" --query accessToken -o tsv 2>>"$work/login")"
}

token_from_identity_endpoint() {
  local endpoint=${AZURE_POD_IDENTITY_AUTHORITY_HOST:-http://169.254.169.254}
  rm -f "$work"/identity*
  curl -q -sS --noproxy '*' --connect-timeout 5 --max-time "$read_seconds" --retry 5 --retry-all-errors --get \
    -H 'Metadata: true' -o "$work/identity" "${endpoint%/}/metadata/identity/oauth2/token" \
    --data-urlencode api-version=2018-02-01 --data-urlencode "resource=${scope%/.default}" \
    --data-urlencode "client_id=$AZURE_CLIENT_ID" 2>"$work/identity.errors" || return 1
  keep_token "$(sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p' "$work/identity")"
}

# An answer that was cut short may still hold a token.
no_token() {
  fail 3 "no token for $scope: check that the pool has the user-assigned identity with client id $AZURE_CLIENT_ID." \
    "The identity endpoint said: $(cat "$work/identity" "$work/identity.errors" 2>/dev/null |
      sed 's/"access_token" *: *"[^"]*/"access_token": "(token)/g' | one_line)"
}

header() { sed -n "s/^$1: *//Ip" "$work/headers" 2>/dev/null | tr -d '\r' | tail -n 1; }

# Seconds that a Retry-After header asks for: a number, or a date by the server's clock (RFC 9110, 10.2.3).
retry_after() {
  local value now
  value=$(header Retry-After)
  now=$(header Date)
  now=$(date -d "${now:-now}" +%s 2>/dev/null || date +%s)
  case $value in
    '') echo 0 ;;
    *[!0-9]*) echo $(($(date -d "$value" +%s 2>/dev/null || echo "$now") - now)) ;;
    *) echo "$((10#$value))" ;;
  esac
}

# Milliseconds to wait after that attempt: 250, doubling to 90 s, half of it at random, or what the server asked for.
wait_after() {
  local half=$((125 * (1 << $1))) asked
  half=$((half < 45000 ? half : 45000))
  asked=$(($(retry_after) * 1000))
  half=$((half + RANDOM * half / 32768))
  echo $((half > asked ? half : asked))
}

# Asks until the answer is not transient: the status is in $status, the body in the file $2.
settled_answer() {
  local attempt code pause
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    code=0
    : >"$work/headers"
    status=$(curl -q -sSg --connect-timeout 10 --max-time "$read_seconds" -H "@$work/authorization" -D "$work/headers" -o "$2" \
      -w '%{http_code}' -- "$1" 2>"$work/curl.errors") || code=$?
    case $code:$status in
      0:408 | 0:429 | 0:50[0234]) problem="$status $(said "$2")" ;;
      0:*) return ;;
      *) problem=$(one_line <"$work/curl.errors") ;;
    esac
    pause=$(wait_after "$attempt")
    [[ $transient_curl_codes == *" $code "* ]] || break
    ((attempt == attempts || SECONDS + pause / 1000 > deadline_seconds)) && break
    note "attempt $attempt of $attempts, the next in $pause ms: $problem"
    sleep "$((pause / 1000)).$(printf %03d $((pause % 1000)))"
  done
  fail 6 "GET $1 failed after $attempt of $attempts attempts; check the address, the network and CURL_CA_BUNDLE," \
    "or run it again later: $problem"
}

# A body for a message; a token that the server repeats is left out.
said() {
  local body token
  body=$(head -c 20000 "$1" | tr -s '[:space:]' ' ')
  token=$(<"$work/authorization")
  body=${body//"${token#*Bearer }"/(token)}
  printf %s "${body:0:500}"
}

# Asks for a page; a 401 renews the token once. az would answer with the one it keeps, the identity endpoint has new ones.
get() {
  settled_answer "$1" "$2"
  if [[ $status == 401 ]]; then
    token_from_identity_endpoint || no_token
    settled_answer "$1" "$2"
  fi
  case $status in
    200) ;;
    401) fail 4 "GET $1: the token of the node identity $AZURE_CLIENT_ID is not accepted, not even a new one;" \
      "check GEOCATALOG_SCOPE. It answered 401 $(said "$2")" ;;
    403) fail 4 "GET $1: the node identity $AZURE_CLIENT_ID may not read $root; assign it the role GeoCatalog Reader" \
      "(or GeoCatalog Administrator) on that GeoCatalog and wait up to ten minutes. It answered 403 $(said "$2")" ;;
    404) fail 5 "GET $1: there is no STAC API; check GEOCATALOG_URL, which ends before /stac. It answered 404" ;;
    *) fail 5 "GET $1: this is none of a STAC catalog's answers; check GEOCATALOG_URL and GEOCATALOG_API_VERSION." \
      "It answered $status $(said "$2")" ;;
  esac
}

origin() {
  local origin
  origin=$(sed -E 's|^([A-Za-z]+://[^/?#\\]*).*|\L\1|' <<<"$1")
  case $origin in
    https:*) echo "${origin%:443}" ;;
    *) echo "${origin%:80}" ;;
  esac
}

# Where the link $2 of page $1 leads; a token goes nowhere but to the server that it is for.
next_url() {
  local following=${2%%#*}
  [[ $following =~ ^[A-Za-z][A-Za-z0-9+.-]*: ]] || case $following in
    //*) following=${1%%:*}:$following ;;
    /*) following=$(origin "$1")$following ;;
    \?*) following=${1%%\?*}$following ;;
    *) following=$(sed 's|[^/]*$||' <<<"${1%%\?*}")$following ;;
  esac
  [[ $(origin "$following") == "$(origin "$1")" ]] ||
    fail 5 "the next link of $1 leads to another server, $following; it is not followed"
  local parameter
  for parameter in "api-version=$GEOCATALOG_API_VERSION" sign=false; do
    case $following in
      *[?\&]"${parameter%%=*}"=*) ;;
      *\?*) following+="&$parameter" ;;
      *) following+="?$parameter" ;;
    esac
  done
  echo "$following"
}

main() {
  local url page facts reader count=0
  local -A seen=()
  check_environment
  reader=$(json_reader)
  token_from_az || token_from_identity_endpoint || no_token
  # Unsigned: the SAS of an asset would get into the archive.
  # https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.getcollections
  url="$root/stac/collections?api-version=$GEOCATALOG_API_VERSION&sign=false"
  while [[ -n $url ]]; do
    [[ -z ${seen[$url]:-} ]] || fail 5 "the pages of the GeoCatalog run in a circle: $url came before"
    seen[$url]=1
    printf -v page '%s/page-%06d' "$work" $((++count))
    get "$url" "$page"
    facts=$("${reader}_page" "$page" 2>/dev/null) ||
      fail 5 "GET $url did not answer with a STAC list of collections, but: $(said "$page")"
    note "page $count: ${facts%%$'\n'*} collections"
    [[ $facts == *$'\n'* ]] || break
    url=$(next_url "$url" "${facts#*$'\n'}")
  done
  "${reader}_document" "$work"/page-* >"$work/document"
  cat "$work/document"
}

main
