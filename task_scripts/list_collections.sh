#!/bin/bash
# List every collection of a GeoCatalog, as one JSON document on standard output.
#
# Runs alone on a Batch node; needs curl and a python3, and takes its token from az where that is there. Environment:
# GEOCATALOG_URL (without /stac), GEOCATALOG_API_VERSION, AZURE_CLIENT_ID (the node identity's) and, where it is not the
# public cloud's, GEOCATALOG_SCOPE; READ_TIMEOUT_SECONDS, within which an answer has to be here as a whole, 60 by
# default. Prints {"collections": [...]}, each collection as the text that the service sent, readable or not; on failure
# nothing but a sentence on standard error.
#
# What a service sends is bounded: an answer and the whole list by most_bytes, all pages by deadline_seconds, pages that
# bring nothing new by barren_pages. A file that grows beyond its limit ends curl: --max-filesize looks at
# Content-Length only, and the headers have no limit at all in what Ubuntu has of it.
#
# Exit codes: 0 done; 2 the environment is incomplete or wrong; 3 the node got no token; 4 the GeoCatalog refused it
# (401, 403); 5 the answer is none that a STAC catalog gives; 6 out of reach, or unavailable after all attempts.
set -euo pipefail
umask 077
export LC_ALL=C.UTF-8

export NETRC=/dev/null # whose passwords az would send instead of its token

readonly attempts=10 dripping_attempts=3 deadline_seconds=900 read_seconds=${READ_TIMEOUT_SECONDS:-60}
readonly most_bytes=$((64 << 20)) barren_pages=20
readonly transient_curl_codes=' 0 5 6 7 16 18 28 35 52 55 56 92 ' # names, connections, time, torn answers
readonly unprintable=$'\x01-\x1f\x7f-\u9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Services repeat what they were sent: no signature of a SAS and no access token gets into the log, and nothing that a
# terminal would obey: control characters, other directions of writing, what has no width.
note() {
  printf 'list_collections: %s\n' "${*//[$unprintable]/?}" |
    sed -E "s/(\\bsig=)[^&[:space:]\"'<>\\]+/\1(secret)/Ig; s/\\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)*/(secret)/g
      s|(://)[^/[:space:]]+@|\1(secret)@|g; s/^(.{2000}).*/\1/" >&2
}

fail() {
  note "${*:2}"
  exit "$1"
}

one_line() { head -c 500 | tr -s '[:space:]' ' '; }

# The start task of the pool leaves one where the image has none.
find_python() {
  python=$(command -v python3 || command -v "${AZ_BATCH_NODE_SHARED_DIR:-}/bin/python") ||
    fail 2 "there is no python3 on this node, which reads what the GeoCatalog answers; run provision again"
}

# What curl cannot: `page FILE URL VERSION` prints where the next page is, numberMatched and what tells the collections
# apart, each on a line; `document FILE...` prints the document, `said FILE` a body on one line. Texts are passed on as
# they were sent: parsing would rewrite numbers. What it does is the same as in list_collections.py.
readonly reader='
import json, re, sys
from urllib.parse import quote, urldefrag, urljoin, urlsplit

parser, token = json.JSONDecoder(strict=False, parse_int=float), re.compile(r"[^\s,:]")
decode = parser.raw_decode

def raw_collections(text):
    skip = lambda position: token.search(text, position).start()
    position, start = skip(text.index("{") + 1), 0
    while text[position] != "}":
        name, end = decode(text, position)
        start = skip(end) if name == "collections" else start
        position = skip(decode(text, skip(end))[1])
    position = skip(start + 1)
    while text[position] != "]":
        entry, end = decode(text, position)
        raw = text[position:end]
        yield entry["id"] if isinstance(entry.get("id"), str) else raw, raw
        position = skip(end)

def origin(url):
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower().removesuffix({"https": ":443", "http": ":80"}.get(parts.scheme, ":"))

def next_url(page, url, version):
    hrefs = [link["href"] for link in page.get("links") or [] if link.get("rel") == "next"]
    if not hrefs:
        return ""
    following = urldefrag(urljoin(url, hrefs[0])).url
    if origin(following) != origin(url):
        sys.exit("the next link of %s leads to another server, %s; it is not followed" % (url, following))
    for name, value in (("api-version", version), ("sign", "false")):
        if not re.search("[?&]%s=" % name, following):
            following += "%s%s=%s" % ("&" if "?" in following else "?", name, value)
    return quote(following, safe="%/:=&?~#+!$,;@()*[]")

def read_page(text, url, version):
    page = parser.decode(text)
    if not isinstance(page["collections"], list) or not all(isinstance(each, dict) for each in page["collections"]):
        raise ValueError
    matched = page.get("numberMatched")
    matched = "%.0f" % min(matched, 1e15) if isinstance(matched, float) and matched > 0 else "0"
    return [next_url(page, url, version), matched, *(json.dumps(name) for name, _ in raw_collections(text))]

def main(what, *arguments):
    texts = (open(name, encoding="utf-8-sig", errors="surrogateescape").read() for name in arguments)
    if what == "said":
        text = open(arguments[0], encoding="utf-8", errors="replace").read(20_000)
        lines = [" ".join("".join(each if each.isprintable() else " " for each in text).split())]
    elif what == "document":
        found = {name: raw for text in texts for name, raw in raw_collections(text)}
        lines = ["{\"collections\": [" + ",\n".join(found.values()) + "]}"]
    else:
        lines = read_page(next(texts), *arguments[1:])
    sys.stdout.buffer.write("".join(line + "\n" for line in lines).encode(errors="surrogateescape"))

try:
    main(*sys.argv[1:])
except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
    sys.exit(1)
'
read_json() { "$python" -I -c "$reader" "$@"; }

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

# One request: prints the status; the headers are in a file, the body in the file $2. What grows beyond its limit ends
# with curl's 23, a single header with 27 (since 8.6 with 100).
ask() {
  : >"$work/headers"
  : >"$2"
  (
    trap '' XFSZ
    ulimit -f $((most_bytes / 1024)) # in units of 1024 bytes
    exec curl -q -sSg --connect-timeout 10 --max-time "$read_seconds" -H "@$work/authorization" -D "$work/headers" -o "$2" \
      -w '%{http_code}' -- "$1" 2>"$work/curl.errors"
  )
}

# Asks until the answer is not transient.
settled_answer() {
  local attempt code pause most
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    code=0 most=$attempts
    status=$(ask "$1" "$2") || code=$?
    (($(wc -l <"$work/headers") <= 102)) || fail 5 "GET $1: the answer has more than 100 headers; check GEOCATALOG_URL"
    case $code:$status in
      0:408 | 0:429 | 0:50[0234]) problem="$status $(said "$2")" ;;
      0:*) return ;;
      23:* | 27:* | 100:*) fail 5 "GET $1: the answer is longer than $most_bytes bytes, or the disk is full;" \
        "check GEOCATALOG_URL" ;;
      *) problem=$(one_line <"$work/curl.errors") ;;
    esac
    [[ $code == 28 && -s $work/headers ]] && most=$dripping_attempts # it began, and did not end in time
    pause=$(wait_after "$attempt")
    [[ $transient_curl_codes == *" $code "* ]] || break
    ((attempt >= most || SECONDS + pause / 1000 > deadline_seconds)) && break
    note "attempt $attempt of $most, the next in $pause ms: $problem"
    sleep "$((pause / 1000)).$(printf %03d $((pause % 1000)))"
  done
  fail 6 "GET $1 failed after $attempt of $most attempts; check the address, the network and CURL_CA_BUNDLE," \
    "or run it again later: $problem"
}

# A body for a message; a token that the server repeats is left out.
said() {
  local body token
  body=$(read_json said "$1")
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

# Follows every page from $1 on: how many collections came is in $counted, how many there are, as the last page says, in
# $matched, and the pages are files of the folder $2.
every_page() {
  local url=$1 page pages=0 barren=0 bytes=0 name before
  local -a facts
  local -A seen=() found=()
  counted=0
  mkdir "$2"
  while [[ -n $url ]]; do
    [[ -z ${seen[$url]:-} ]] || fail 5 "the pages of the GeoCatalog run in a circle: $url came before"
    ((bytes <= most_bytes)) || fail 5 "the list of collections is longer than $most_bytes bytes; check GEOCATALOG_URL"
    ((barren < barren_pages)) || fail 5 "the last $barren pages of the list of collections brought nothing new, and" \
      "there is another; check GEOCATALOG_URL"
    ((SECONDS <= deadline_seconds)) || fail 6 "after $pages pages and $deadline_seconds s the list of collections is" \
      "not at its end; run it again later"
    seen[$url]=1
    printf -v page '%s/%06d' "$2" $((++pages))
    get "$url" "$page"
    read_json page "$page" "$url" "$GEOCATALOG_API_VERSION" >"$work/facts" 2>"$work/reader.errors" ||
      fail 5 "$(grep . "$work/reader.errors" ||
        echo "GET $url did not answer with a STAC list of collections, but: $(said "$page")")"
    mapfile -t facts <"$work/facts"
    before=${#found[@]}
    for name in "${facts[@]:2}"; do
      [[ -z ${found[$name]:-} || ${found[$name]} == "$pages" ]] || note "collection $name came again; the later one is kept"
      [[ -n ${found[$name]:-} && ${found[$name]} != "$pages" ]] || ((++counted))
      found[$name]=$pages
    done
    barren=$((${#found[@]} > before ? 0 : barren + 1))
    bytes=$((bytes + $(wc -c <"$page")))
    note "page $pages: $((${#facts[@]} - 2)) collections"
    url=${facts[0]} matched=${facts[1]}
  done
}

main() {
  local first
  check_environment
  find_python
  token_from_az || token_from_identity_endpoint || no_token
  # Unsigned: the SAS of an asset would get into the archive.
  # https://learn.microsoft.com/dotnet/api/azure.analytics.planetarycomputer.stacclient.getcollections
  first="$root/stac/collections?api-version=$GEOCATALOG_API_VERSION&sign=false"
  every_page "$first" "$work/pages"
  if ((matched > counted)); then
    # A catalog may change between two pages, and a service may have a page size without a next link.
    note "$counted collections came and numberMatched is $matched; they are asked for again"
    rm -r "$work/pages"
    every_page "$first&limit=$matched" "$work/pages"
  fi
  ((matched <= counted)) || fail 5 "GET $first: $counted collections came and numberMatched is $matched, also when asked" \
    "again; run it again later, or have the GeoCatalog looked after"
  read_json document "$work"/pages/* >"$work/document"
  cat "$work/document"
}

main
