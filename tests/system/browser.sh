#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests where it is missing and this is root.
set -euo pipefail

for name in "${SFSC_CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null; then
        exit 0
    fi
done

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "browser.sh: installing Debian's chromium"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi

echo "browser.sh: no Chromium found, and only root may install it: the tests in tests/system/page will be skipped." >&2
echo "browser.sh: 'sudo apt-get install chromium', or SFSC_CHROMIUM=/path/to/chromium, runs them." >&2
