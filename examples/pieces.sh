# SPDX-License-Identifier: Apache-2.0
# For a GPU machine without a network, to which a call brings the checkout and little more: a folder in pieces, one a call.
# Sourced in the checkout's root; .lease/ is ignored by git.

# cut_up NAME: .lease/NAME -> .lease/NAME00/NAME00, .lease/NAME01/NAME01, ..., each as large as a call of CALL MiB allows
cut_up() {
  local checkout
  checkout=$(git ls-files -z --cached --others --exclude-standard | { xargs -0 du -cb 2> /dev/null || true; } |
    tail -n 1 | cut -f1)  # a sparse checkout lacks some files
  tar -C ".lease/$1" -c . | (cd .lease && split -d -a 2 -b $(((${CALL:-62} << 20) - checkout)) \
    --filter='mkdir "$FILE" && cat > "$FILE/$FILE"' - "$1")
  rm -r ".lease/$1"
  du -s --block-size=1MiB .lease/"$1"??
}

# keep NAME FOLDER: there, in each call: the piece that came -> FOLDER, since the next call may not find it in .lease/
keep() { mkdir -p "$2" && cp .lease/"$1"??/* "$2/"; }

# join NAME FOLDER: there, after the last: what was cut up -> FOLDER
join() { cat "$2/$1"?? | tar -C "$2" -x && rm "$2/$1"??; }
