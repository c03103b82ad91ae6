#!/usr/bin/env bash
# One class of shapes, from raw meshes to the paper's table: preprocess, train, reconstruct, evaluate, report.
#
#   examples/reproduce.sh MESHES NAME TRAIN_SPLIT TEST_SPLIT OUT [PRESET] [EPOCHS] [RESOLUTION]
#
# MESHES      the folder of meshes, as MESHES/<class>/<instance>.<ext> or MESHES/<class>/<instance>/**/<any>.obj
# NAME        the dataset's name in the split files (ShapeNetV2 in the original's)
# *_SPLIT     split files; `deepsdf split` makes them where there are none
# OUT         OUT/data and OUT/experiment are made; a run that was stopped goes on where it was
# PRESET      fast (default), quality, or deepsdf: the original's network and settings
# EPOCHS      default: the preset's
# RESOLUTION  of the meshes; 256 (default), 512 as the paper
set -euo pipefail
if [ $# -lt 5 ]; then
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
meshes=$1 name=$2 train=$3 test=$4 out=$5 preset=${6:-fast} epochs=${7:-} resolution=${8:-256}
data=$out/data experiment=$out/experiment

# Shapes that fail are listed and left out (exit status 1); anything else ends the script.
some() { "$@" || [ $? -eq 1 ]; }
trap 'exit 130' INT # training ends well on Ctrl-C, but what follows is to wait for the rest of it

some deepsdf preprocess -s "$meshes" -n "$name" -d "$data" --split "$train" --skip
some deepsdf preprocess -s "$meshes" -n "$name" -d "$data" --split "$test" --skip
some deepsdf preprocess -s "$meshes" -n "$name" -d "$data" --split "$test" --surface --skip
if [ -e "$experiment/ModelParameters/latest.pth" ]; then
    some deepsdf train -e "$experiment" --continue latest
elif [ -e "$experiment/specs.json" ]; then # stopped before its first checkpoint
    some deepsdf train -e "$experiment"
else
    some deepsdf train -e "$experiment" --preset "$preset" -d "$data" -s "$train" --test-split "$test" \
        ${epochs:+--epochs "$epochs"}
fi
some deepsdf reconstruct -e "$experiment" -d "$data" -s "$test" --resolution "$resolution" --skip
some deepsdf evaluate -e "$experiment" -d "$data" -s "$test"
some deepsdf report -e "$experiment" -d "$data" -s "$test" -o "$out/report.html"
