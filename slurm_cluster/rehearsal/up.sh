#!/bin/bash
# Start a real Slurm cluster on this one machine, to rehearse a sweep on.
#
#   slurm_cluster/rehearsal/up.sh [FOLDER [NODES]]     default: /tmp/slurm-rehearsal, 4 nodes
#   . FOLDER/env.sh                                    then sbatch, squeue, sacct ... speak to it
#   slurm_cluster/rehearsal/down.sh [FOLDER]
#
# Needs Debian's or Ubuntu's packages: slurmctld slurmd slurm-client slurmdbd munge mariadb-server.
# Everything it writes is in FOLDER, and its ports are free ones of its own, so that several
# clusters can stand side by side. Each node has 4 CPUs and a fake GPU. Jobs in partition `gpu`
# (the default) are preempted, by requeue, by jobs in partition `urgent`.
# GRACE (20) seconds of grace time before a preempted job is killed.
set -euo pipefail

root=$(realpath -m "${1:-/tmp/slurm-rehearsal}")
nodes=${2:-4}
grace=${GRACE:-20}
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
user=$(id -un)
host=$(hostname -s)

fail() {
  echo "error: $1" >&2
  exit 2
}
[[ $nodes =~ ^[1-9][0-9]?$ ]] || fail "NODES '$nodes': expected 1 to 99"
[ "${#root}" -le 70 ] || fail "FOLDER '$root': expected at most 70 characters, as sockets go there"
[ ! -s "$root/run/pids" ] || fail "a cluster of $root is up already, or was not taken down: run down.sh"
if [ -n "$(ls -A "$root" 2>/dev/null)" ] && ! grep -qs '^ClusterName=rehearsal$' "$root/conf/slurm.conf"; then
  fail "FOLDER '$root' holds something else: expected an empty or a new one"
fi
PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd slurmdbd sbatch mariadbd mariadb-install-db; do
  command -v "$program" >/dev/null || fail "no $program: apt-get install slurmctld slurmd slurm-client slurmdbd munge mariadb-server"
done

rm -rf "$root"
mkdir -p "$root"/{conf,state,spool,log,run,mysql,dev}
chmod 755 "$root" "$root/run"
: >"$root/run/pids"
trap '"$here/down.sh" "$root"; tail -n 5 "$root"/log/* >&2; fail "the cluster did not start"' ERR

# a port that was free a moment ago, above those that are handed out to clients
read -r mysql_port dbd_port ctld_port first_node_port < <(python3 - "$nodes" <<'PY'
import random, socket, sys

def free(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0

nodes = int(sys.argv[1])
starts = list(range(20000, 30000, 110))
random.shuffle(starts)
start = next(s for s in starts if all(map(free, range(s, s + nodes + 3))))
print(start, start + 1, start + 2, start + 3)
PY
)

start() { # NAME COMMAND...: as a daemon of its own session, remembered by process id
  setsid "${@:2}" >>"$root/log/$1.log" 2>&1 </dev/null &
  echo "$1 $!" >>"$root/run/pids"
}
until_true() { # COMMAND...: for at most PATIENCE_SECONDS (30)
  for _ in $(seq $((5 * ${PATIENCE_SECONDS:-30}))); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.2
  done
  echo "gave up waiting for: $*" >&2
  return 1
}

head -c 1024 /dev/urandom >"$root/conf/munge.key"
chmod 400 "$root/conf/munge.key"
start munged munged --foreground --force --key-file="$root/conf/munge.key" \
  --socket="$root/run/munge.socket" --pid-file="$root/run/munged.pid" \
  --log-file="$root/log/munged.log" --seed-file="$root/run/munge.seed"
until_true munge --socket="$root/run/munge.socket" --no-input

if [ "$user" = root ]; then as_mysql=(--user=root); else as_mysql=(); fi
mariadb-install-db --no-defaults "${as_mysql[@]}" --datadir="$root/mysql" --skip-test-db >"$root/log/mysql-install.log" 2>&1
start mariadbd mariadbd --no-defaults "${as_mysql[@]}" --datadir="$root/mysql" \
  --socket="$root/run/mysql.socket" --pid-file="$root/run/mysql.pid" \
  --bind-address=127.0.0.1 --port="$mysql_port" --innodb-buffer-pool-size=64M
mysql=(mariadb --no-defaults --socket="$root/run/mysql.socket")
until_true "${mysql[@]}" --execute "select 1"
"${mysql[@]}" <<'SQL'
create database slurm_acct_db;
create user slurm@localhost identified by 'rehearsal';
create user slurm@'127.0.0.1' identified by 'rehearsal';
grant all on slurm_acct_db.* to slurm@localhost;
grant all on slurm_acct_db.* to slurm@'127.0.0.1';
SQL

cat >"$root/conf/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$root/run/munge.socket
DbdHost=localhost
DbdPort=$dbd_port
SlurmUser=$user
LogFile=$root/log/slurmdbd.log
PidFile=$root/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$mysql_port
StorageUser=slurm
StoragePass=rehearsal
StorageLoc=slurm_acct_db
CONF
chmod 600 "$root/conf/slurmdbd.conf"

cat >"$root/conf/slurm.conf" <<CONF
ClusterName=rehearsal
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# a requeued job may start again after 5 seconds, not after the usual two minutes
AuthInfo=socket=$root/run/munge.socket,cred_expire=5
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/run/slurmctld.pid
SlurmdPidFile=$root/run/slurmd-%n.pid
SlurmctldLogFile=$root/log/slurmctld.log
SlurmdLogFile=$root/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=2
SlurmctldParameters=preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
MaxArraySize=2001
SlurmdTimeout=30
KillWait=5
MinJobAge=3600
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=$dbd_port
# of the connection to slurmdbd: again the socket of our own munged
AccountingStoragePass=$root/run/munge.socket
JobAcctGatherType=jobacct_gather/linux
GresTypes=gpu
# the nodes are alleged to be larger than this machine
SlurmdParameters=config_overrides
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$first_node_port-$((first_node_port + nodes - 1))] CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=4096 Gres=gpu:1 State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=10 GraceTime=$grace
PartitionName=urgent Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=100 PreemptMode=off
CONF
touch "$root/dev/gpu0" # a fake GPU is a file
echo "NodeName=n[1-$nodes] Name=gpu File=$root/dev/gpu0" >"$root/conf/gres.conf"
echo "CgroupAutomount=no" >"$root/conf/cgroup.conf"
echo "export SLURM_CONF=$root/conf/slurm.conf" >"$root/env.sh"
export SLURM_CONF=$root/conf/slurm.conf

start slurmdbd slurmdbd -D
until_true sacctmgr --noheader show cluster
for what in "cluster rehearsal" "account $user cluster=rehearsal" "user $user account=$user"; do
  # shellcheck disable=SC2086  # words of a command
  sacctmgr --immediate add $what >>"$root/log/sacctmgr.log" 2>&1 || true # root has them already
done
start slurmctld slurmctld -D -c
until_true sinfo
for node in $(seq "$nodes"); do start "slurmd-n$node" slurmd -D -N "n$node"; done
all_idle() { [ "$(sinfo --noheader --partition=gpu --states=idle --format=%D)" = "$nodes" ]; }
until_true all_idle
trap - ERR
sinfo
echo "to use it:  . $root/env.sh"
