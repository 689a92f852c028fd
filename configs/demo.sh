#!/bin/sh
# The main job on the embedded digits: pretrain, prove, embed, neighbours, similarity, plots. About three minutes on two cores.
set -eu
out=${1:-runs/demo}
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }
say clr pretrain --out "$out" --overwrite
say clr linear-eval --run "$out" --label-fraction 0.01,0.05,0.1,1
say clr embed --run "$out" --out "$out/embeddings.pkl"
say clr knn "$out/embeddings.pkl" --metric cosine --quiet
say clr datasets digits --save-images "$out/images" --count 20 --quiet
say clr similarity "$out"/images/3-*.png --run "$out"
say clr plot embeddings "$out/embeddings.pkl" --run "$out" --out "$out/plots/embeddings-tsne.png" --quiet
say clr plot views --run "$out" --quiet
say clr plot curves --run "$out" --quiet
printf '\nLook at:\n'
printf '  %s\n' "$out/plots/embeddings-tsne.png" "$out/plots/views.png" "$out/plots/curves.png" "$out/eval/linear-digits.json"
