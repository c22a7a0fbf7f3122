#!/bin/sh
# Bring Chromium for the tests of the page, where the system's package manager is there and allowed.
set -u
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null 2>&1 && exit 0
done
[ -n "${LIVE_ASR_TEST_CHROMIUM:-}" ] && exit 0
run=""
[ "$(id -u)" = 0 ] || run="sudo -n"
if command -v apt-get >/dev/null 2>&1 && $run true 2>/dev/null; then
    echo "installing Chromium for the tests of the page …"
    export DEBIAN_FRONTEND=noninteractive
    $run apt-get update -qq >/dev/null &&
        $run apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null && exit 0
fi
echo "Chromium is not here and cannot be installed: the page's tests will be skipped." >&2
echo "Install it with your package manager (Debian: apt-get install chromium)." >&2
