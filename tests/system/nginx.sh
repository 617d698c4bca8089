#!/usr/bin/env bash
# Installs Debian's nginx for the test of the proxy where it is missing and this is root.
set -euo pipefail

if command -v nginx >/dev/null; then
    exit 0
fi

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "nginx.sh: installing Debian's nginx"
    apt-get update -qq
    # A system with an init would start it, on a port that may be taken.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o DPkg::Options::=--force-confold \
        nginx-light >/dev/null
    exit 0
fi

echo "nginx.sh: no nginx found, and only root may install it: tests/system/test_proxy.py will be skipped." >&2
echo "nginx.sh: 'sudo apt-get install nginx-light' runs it." >&2
