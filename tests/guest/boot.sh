# shellcheck shell=bash
# shellcheck disable=SC2054 # the commas are QEMU's
# How the lab guest is run: QEMU's command line, the watch over it, its end. Sourced by
# scripts/lab, which sets LAB, GUEST, DEADLINE, PCAP.
#
# A run has a directory of its own (RUN) with the console's log and the share `job`:
# `command` is what to do, `status` how it ended.

# A guest that has not reached its initramfs by then hangs in emulation; it is retried.
# Seconds on a machine that is otherwise idle, see patience.
INIT_LIMIT=45
UP_LIMIT=90

# accelerator: `tcg` or `kvm`. BERTH_LAB_ACCEL=tcg|kvm decides, otherwise KVM is used
# only where a probe has shown that it boots this guest: a /dev/kvm that opens may still
# hang or abort.
accelerator() {
  local stamp
  case ${BERTH_LAB_ACCEL-} in
    tcg | kvm)
      echo "$BERTH_LAB_ACCEL"
      return
      ;;
    '') ;;
    *) die "BERTH_LAB_ACCEL is '$BERTH_LAB_ACCEL'" "it takes tcg or kvm" ;;
  esac
  if ! [[ -r /dev/kvm && -w /dev/kvm ]]; then
    echo tcg
    return
  fi
  stamp="$(</proc/sys/kernel/random/boot_id) $(qemu_version) $(boot_stamp)"
  if ! is_built kvm "yes $stamp" && ! is_built kvm "no $stamp"; then
    say "trying whether KVM works here"
    if probe_kvm; then echo "yes $stamp"; else echo "no $stamp"; fi >"$LAB/kvm.stamp"
  fi
  if is_built kvm "yes $stamp"; then echo kvm; else echo tcg; fi
}

# Boots the whole guest with a short deadline and has it make a VF whose registers are
# where the device model answers (below 4 GiB): the one thing known to break silently.
# It must not inherit the build lock, which anything it left behind would hold on to.
probe_kvm() {
  # shellcheck disable=SC2016 # expanded in the guest
  BERTH_LAB_ACCEL=kvm LAB_PROBE=1 timeout -k 2 20 \
    "$REPO/scripts/lab" run --deadline 15 -- sh -c '
      set -e
      dev=/sys/class/net/pf0/device
      ip link set pf0 up
      echo 1 >$dev/sriov_numvfs
      read -r start _ <$dev/virtfn0/resource
      test $((start)) -gt 0 -a $((start)) -lt 4294967296' >/dev/null 2>&1 9>&-
}

qemu_version() { qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p;q'; }

# Two NUMA nodes of four cores with two threads each.
machine_options() {
  # thread=single: with one thread per CPU, emulation loses interrupts now and then.
  # The vendor keeps the firmware from placing device windows above 4 GiB, where the
  # emulated VFs do not answer.
  local cpu='max,vendor=GenuineIntel' accel='tcg,thread=single'
  if [[ ${ACCEL:?} == kvm ]]; then accel=kvm; fi
  QEMU=(
    qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
    -machine q35 -accel "$accel" -cpu "$cpu"
    -smp 16,sockets=2,cores=4,threads=2 -m 4G
    -object memory-backend-ram,id=m0,size=2G -object memory-backend-ram,id=m1,size=2G
    -numa node,nodeid=0,cpus=0-7,memdev=m0 -numa node,nodeid=1,cpus=8-15,memdev=m1
    -kernel "$LAB/vmlinux" -initrd "$LAB/initramfs.cpio" -append "$(kernel_options)"
    -serial "file:$RUN/console" -device isa-debug-exit,iobase=0x501,iosize=1
  )
}

kernel_options() {
  echo "console=ttyS0 net.ifnames=0 panic=-1 quiet tsc=reliable nokaslr mitigations=off" \
    "cryptomgr.notests init_on_alloc=0 audit=0 apparmor=0 no_timer_check"
}

# Four igb ports on one hub: pf0 and pf1 behind a bridge of their NUMA node each, and
# two that never get VFs, since an emulated PF with VFs passes no tagged broadcast on.
network_options() {
  local n
  QEMU+=(
    -device pxb-pcie,id=px0,bus=pcie.0,bus_nr=32,numa_node=0
    -device pxb-pcie,id=px1,bus=pcie.0,bus_nr=64,numa_node=1
    -device pcie-root-port,id=rp1,bus=px0,slot=1,chassis=1
    -device pcie-root-port,id=rp2,bus=px1,slot=2,chassis=2
    -device pcie-root-port,id=rp3,bus=pcie.0,slot=3,chassis=3
    -device pcie-root-port,id=rp4,bus=pcie.0,slot=4,chassis=4
  )
  for n in 1 2 3 4; do
    QEMU+=(
      -netdev "hubport,id=h$n,hubid=0"
      -device "igb,bus=rp$n,netdev=h$n,mac=52:54:00:be:00:0$n"
    )
  done
  # The hub floods, so the last port sees all there is.
  if [[ -n $PCAP ]]; then QEMU+=(-object "filter-dump,id=wire,netdev=h4,file=$PCAP"); fi
}

# Every run starts from the images as they were built.
disk_options() {
  local name options=format=raw,if=none,snapshot=on,cache=unsafe
  for name in xfs ext4; do
    QEMU+=(
      -drive "file=$LAB/$name.img,id=$name,$options"
      -device "virtio-blk-pci,bus=pcie.0,drive=$name,serial=lab$name"
    )
  done
  QEMU+=(
    -drive "file=$LAB/nvme.img,id=nvme,$options" -device nvme,bus=pcie.0,drive=nvme,serial=labnvme
    -drive "file=$LAB/slow.img,id=slow,$options,throttling.bps-write=20971520"
    -device virtio-blk-pci,bus=pcie.0,drive=slow,serial=labslow
  )
}

share() {
  QEMU+=(
    -fsdev "local,id=$1,path=$2,security_model=none,multidevs=remap$3"
    -device "virtio-9p-pci,bus=pcie.0,fsdev=$1,mount_tag=$1"
  )
}

share_options() {
  share root "$LAB/root" ,readonly=on
  share bin "$LAB/bin" ,readonly=on
  share src "$REPO" ,readonly=on
  share job "$RUN/job" ''
  QEMU+=(-device virtio-serial-pci,bus=pcie.0)
}

# port_option NAME PATH: what the guest writes to port NAME goes to PATH.
port_option() {
  QEMU+=(-chardev "file,id=$1,path=$2" -device "virtserialport,chardev=$1,name=lab.$1")
}

qemu_options() {
  machine_options
  network_options
  disk_options
  share_options
}

new_run() {
  mkdir -p "$LAB/bin"
  RUN=$(mktemp -d "$LAB/run.XXXXXX")
  mkdir "$RUN/job"
  trap end_run EXIT
}

# The last run's directory stays, for its console and what the job left in /job.
end_run() {
  local status=$?
  trap - EXIT
  if [[ -n ${QEMU_PID-} ]]; then kill -KILL "$QEMU_PID" 2>/dev/null || true; fi
  stop_readers
  if [[ -n ${TERMINAL-} ]]; then stty "$TERMINAL" </dev/tty || true; fi
  rm -rf "${LAB:?}/${LAST:-last}"
  mv "$RUN" "$LAB/${LAST:-last}"
  exit "$status"
}

console_has() { [[ -r $RUN/console ]] && grep -qa "$1" "$RUN/console"; }

console_tail() {
  echo "--- the end of the guest's console ($LAB/${LAST:-last}/console):" >&2
  touch "$RUN/console"
  tr -d '\r' <"$RUN/console" | tail -n 40 | sed 's/^/    /' >&2
  # The hub is not meant to be connected to the host.
  grep -v 'hub 0 is not connected' "$RUN/qemu.log" | sed 's/^/    /' >&2 || true
}

qemu_runs() { kill -0 "$QEMU_PID" 2>/dev/null; }

# wait_for MARK SECONDS: 0 when the guest printed it, 1 after the time, 2 when it died.
wait_for() {
  local end=$((SECONDS + $2))
  while ! console_has "MARK $1"; do
    qemu_runs || return 2
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

# patience SECONDS: as many, times the load per processor where that is above one. A
# guest that shares its processor with five builds is slow and not dead.
patience() {
  local load
  read -r load _ </proc/loadavg
  awk -v s="$1" -v load="$load" -v cpus="$(nproc)" \
    'BEGIN { f = load / cpus; print int(s * (f < 1 ? 1 : f > 6 ? 6 : f)) }'
}

# boot START-FUNCTION: starts QEMU by it and returns when the guest is up. A guest that
# hangs before its initramfs is killed and started once more.
boot() {
  local start result attempt limit
  limit=$(patience "$INIT_LIMIT")
  for attempt in 1 2; do
    start=$(now)
    rm -f "$RUN/console"
    "$1"
    result=0
    wait_for init "$limit" || result=$?
    if ((result != 1 || attempt == 2)); then break; fi
    say "the guest did not start within $limit s; starting it once more"
    stop_qemu
  done
  if ((result == 0)); then wait_for up "$(patience "$UP_LIMIT")" || result=$?; fi
  if ((result != 0)); then
    stop_qemu
    console_tail
    die "the guest did not come up ($(since "$start") s)"
  fi
  quiet || say "guest up in $(since "$start") s"
}

quiet() { [[ -n ${LAB_PROBE-} ]]; }

stop_qemu() {
  kill -KILL "$QEMU_PID" 2>/dev/null || true
  wait "$QEMU_PID" 2>/dev/null || true
  QEMU_PID=''
}

# Without a guest that opens the pipes the readers would wait for ever.
stop_readers() {
  if [[ -n ${READERS-} ]]; then kill "${READERS[@]}" 2>/dev/null || true; fi
  READERS=()
}

# The job's output reaches our own stdout and stderr through two pipes.
start_job() {
  stop_readers
  rm -f "$RUN/out" "$RUN/err"
  mkfifo "$RUN/out" "$RUN/err"
  cat "$RUN/out" &
  READERS=("$!")
  cat "$RUN/err" >&2 &
  READERS+=("$!")
  TMPDIR=$RUN "${QEMU[@]}" </dev/null >"$RUN/qemu.log" 2>&1 &
  QEMU_PID=$!
}

start_terminal() {
  TMPDIR=$RUN "${QEMU[@]}" <&0 2>"$RUN/qemu.log" &
  QEMU_PID=$!
}

# run_guest: runs RUN/job/command and returns its exit status. The deadline is the
# command's; booting has limits of its own.
run_guest() {
  local end
  qemu_options
  port_option out "$RUN/out"
  port_option err "$RUN/err"
  boot start_job
  end=$((SECONDS + DEADLINE))
  while qemu_runs; do
    if ((DEADLINE > 0 && SECONDS >= end)); then
      stop_qemu
      console_tail
      die "killed by the deadline of $DEADLINE s" "give it more with --deadline SEC"
    fi
    sleep 0.1
  done
  wait "$QEMU_PID" || true
  QEMU_PID=''
  wait "${READERS[@]}" || true
  READERS=()
  job_status
}

job_status() {
  if [[ ! -s $RUN/job/status ]]; then
    console_tail
    die "the guest died before the command ended"
  fi
  return "$(<"$RUN/job/status")"
}

# run_terminal: the same with this terminal as the guest's. In raw mode every key goes
# to the guest, Ctrl-C too; the guest ends with its shell.
run_terminal() {
  TERMINAL=$(stty -g </dev/tty)
  qemu_options
  QEMU+=(
    -chardev stdio,id=tty,signal=off
    -device virtconsole,chardev=tty,name=lab.tty
  )
  boot start_terminal
  wait "$QEMU_PID" || true
  QEMU_PID=''
  job_status
}
