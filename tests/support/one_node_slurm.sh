#!/bin/bash
# Starts a SLURM of one node on this machine, without systemd, control groups or a database. Run as root.
set -e
folder=$1
host=$(hostname -s)
mkdir -p "$folder"/{state,spool,log}
cat > "$folder/slurm.conf" <<C
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPort=16817
SlurmdPort=16818
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdSpoolDir=$folder/spool
StateSaveLocation=$folder/state
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
JobRequeue=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
C
install -d -o munge -g munge -m 755 /run/munge
[ -S /run/munge/munge.socket.2 ] || setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged
export SLURM_CONF=$folder/slurm.conf
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF" -N "$host"
for _ in $(seq 40); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
    sleep 0.5
done
echo "SLURM did not start" >&2
exit 1
