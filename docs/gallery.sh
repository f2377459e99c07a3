#!/bin/sh
# Make the pictures of the README's gallery anew: sh docs/gallery.sh DIR, where DIR holds the runs of one task set.
# Needs the extras report and video (for pillow) and chromium; BROWSER names another one.
set -eu
runs=$1
docs=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m mtrl.report "$runs" --out "$work/report"
for figure in curves iqm; do
    # The first comparison's; its name begins with the task set.
    set -- "$work"/report/figures/*-train-"$figure".svg
    cp "$1" "$docs/report-$figure.svg"
done
"${BROWSER:-chromium}" --headless --no-sandbox --disable-gpu --disable-quic --no-first-run \
    --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars \
    --user-data-dir="$work/browser" --window-size=1100,1560 --screenshot="$work/page.png" \
    "file://$work/report/index.html" 2>/dev/null
# 256 colours are enough for a page of text and lines, and a third of the bytes.
python - "$work/page.png" "$docs/report-page.png" <<'PYTHON'
import sys

from PIL import Image

Image.open(sys.argv[1]).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(sys.argv[2], optimize=True)
PYTHON
ls -l "$docs"/report-*
