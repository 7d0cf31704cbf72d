#!/bin/sh
# Takes the screenshots of docs/support.md anew: the page of a made-up day (cli/src/logs/report/tests/fixture.rs), in
# headless Chromium, on a desktop and on a phone, light and dark.
set -eu
cd "$(dirname "$0")"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
page=$place/report.html
REPORT_EXAMPLE=$page cargo test -p tuntrail-cli --bin tuntrail write_the_example -- --ignored

# shoot NAME WIDTH HEIGHT SCHEME: 0 is dark, 1 is light.
shoot() {
    "${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$place/profile" \
        --blink-settings=preferredColorScheme="$4" --window-size="$2,$3" --screenshot="$PWD/$1.png" "file://$page" \
        >/dev/null 2>&1
}

shoot report-desktop-light 1000 1240 1
shoot report-desktop-dark 1000 1240 0
shoot report-phone-light 390 1240 1
shoot report-phone-dark 390 1240 0
