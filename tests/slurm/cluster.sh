#!/usr/bin/env bash
# A SLURM cluster of two nodes on this one machine, for tests. Everything lies in one folder.
#
#   apt-get install slurmctld slurmd slurm-client munge      (Debian, Ubuntu; as root)
#   tests/slurm/cluster.sh start /tmp/cluster                prints the line to export
#   export SLURM_CONF=/tmp/cluster/slurm.conf
#   sinfo
#   tests/slurm/cluster.sh stop /tmp/cluster
#
# Partition `main` is the default; a job in `urgent` preempts those in `main`, which are requeued.
# No accounting, no cgroups; a requeued job may start again after 5 s (by default it waits 120).
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin

action=${1:?start or stop} dir=${2:?folder of the cluster}

stop() {
    # Jobs would outlive the daemons.
    SLURM_CONF=$dir/slurm.conf timeout 5 scancel --user="$(id -un)" || true
    for _ in $(seq 20); do
        if [[ -z $(SLURM_CONF=$dir/slurm.conf timeout 5 squeue -h 2>/dev/null) ]]; then break; fi
        sleep 1
    done
    for name in slurmd-node1 slurmd-node2 slurmctld munged; do
        if [[ -f $dir/$name.pid ]]; then
            kill "$(cat "$dir/$name.pid")" 2>/dev/null || true
        fi
    done
}

start() {
    local host port user
    host=$(hostname -s) user=$(id -un) port=${SLURM_TEST_PORT:-16817}
    mkdir -p "$dir"/{state,spool,munge}
    dir=$(cd "$dir" && pwd)
    chmod 700 "$dir/munge"
    head -c 128 /dev/urandom > "$dir/munge/key"
    chmod 400 "$dir/munge/key"
    cat > "$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$dir/munge/socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=1
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=1
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 DefaultTime=10
PartitionName=urgent Nodes=ALL PriorityTier=10 DefaultTime=10
CONF
    export SLURM_CONF=$dir/slurm.conf
    # --force: folders below /tmp may be written by others
    munged --force --key-file "$dir/munge/key" --socket "$dir/munge/socket" \
        --pid-file "$dir/munged.pid" --log-file "$dir/munge/log" --seed-file "$dir/munge/seed"
    slurmctld -c
    slurmd -N node1
    slurmd -N node2
    for _ in $(seq 60); do
        if [[ $(sinfo -h -o %T 2>/dev/null) == idle ]]; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "the nodes did not come up; the logs are in $dir" >&2
    sinfo >&2 || true
    stop
    exit 1
}

case $action in
    start) start ;;
    stop) stop ;;
    *) echo "start or stop, not $action" >&2; exit 2 ;;
esac
