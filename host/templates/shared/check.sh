#!/bin/sh
# Tests the running server: start it with `{{serve}}`, and run this in another terminal. It takes another address than
# the one below as its argument.
set -eu
base=${1:-http://127.0.0.1:3000}

# check STATUS TEXT PATH [CURL_OPTION...]: the response has this status, and this text is in its body.
check() {
  status=$1 text=$2 path=$3
  shift 3
  if ! response=$(curl --silent --show-error --max-time 30 --write-out '\n%{http_code}' "$@" "$base$path"); then
    printf 'failed: %s: no response from %s; start the server with `{{serve}}`\n' "$path" "$base" >&2
    exit 1
  fi
  case $response in
    *"$text"*"
$status") printf 'ok: %s\n' "$path" ;;
    *)
      printf 'failed: %s: expected "%s" and status %s, got:\n%s\n' "$path" "$text" "$status" "$response" >&2
      exit 1
      ;;
  esac
}
