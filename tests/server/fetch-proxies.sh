#!/bin/sh
# Bring nginx and Caddy for the tests of docs/proxies.md: Debian's packages, unpacked and not installed, so that
# no service is started and nothing of the system is changed.
set -u
folder="${1:-.venv/proxies}"
for name in nginx caddy; do
    command -v "$name" >/dev/null 2>&1 && continue
    [ -x "$folder/usr/sbin/$name" ] || [ -x "$folder/usr/bin/$name" ] && continue
    if command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1; then
        echo "fetching $name for the tests of proxies …"
        mkdir -p "$folder/packages" && (
            cd "$folder/packages" || exit 1
            apt-get download -qq "$name" >/dev/null 2>&1 && dpkg-deb -x "$name"_*.deb ..
        ) && continue
    fi
    echo "$name is not here and cannot be fetched: its test will be skipped." >&2
done
exit 0
