#!/usr/bin/env bash
# One stage, or the whole graph, as a Slurm job; a DVC remote is where jobs and people meet. docs/scaling-out.md tells more.
#
#   sbatch stages/cluster/slurm.sh                      the whole graph
#   sbatch stages/cluster/slurm.sh dpo@tsr-1 pair@sr-2  these stages, and what they rest on
#   bash stages/cluster/slurm.sh                        the same on this machine, without Slurm
#
# Submitted from a checkout, its commit counts. What other jobs pushed is not made again; what is finished is pushed, also
# where a stage failed or the time is up, so that the same command goes on from there.
#SBATCH --job-name=tsr
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=256G
#SBATCH --gres=gpu:8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --output=tsr-%j.log
#SBATCH --open-mode=append
set -euo pipefail

home=$(cd "${SLURM_SUBMIT_DIR:-.}" && git rev-parse --show-toplevel)
if [[ -f $home/.venv/bin/activate ]]; then
    # shellcheck source=/dev/null
    source "$home/.venv/bin/activate"
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
export TSR_STORE="${TSR_STORE:-$home/.tsr}" # finished rows of a stage that was cut short

# A clone of its own: jobs that share one would stand in each other's way.
work=$(mktemp -d "${SLURM_TMPDIR:-${TMPDIR:-/tmp}}/tsr.XXXXXX")
trap 'rm -rf "$work"' EXIT
git clone --quiet "$home" "$work/checkout"
if [[ -f $home/.dvc/config.local ]]; then # where DVC keeps keys of a remote
    cp -p "$home/.dvc/config.local" "$work/checkout/.dvc/"
fi
cd "$work/checkout"

python -m stages run --pull "$@" &
running=$!
trap 'kill -TERM "$running" 2>/dev/null || true' TERM INT
status=0
wait "$running" || status=$?
while kill -0 "$running" 2>/dev/null; do # a signal ends `wait` before it ends the run
    status=0
    wait "$running" || status=$?
done

# The push has to end, whatever comes now; the run cache says what was made of what, so no dvc.lock has to travel.
trap '' TERM INT
dvc push --run-cache || { echo "slurm.sh: not all could be pushed; the cause is above" >&2; status=2; }
exit "$status"
