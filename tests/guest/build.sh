# shellcheck shell=bash
# How the lab guest is made: root directory, kernel, disks, initramfs. Sourced by
# scripts/lab, which sets LAB (where it goes) and GUEST (this directory).
#
# Two stamps guard it: the root one covers this file and the package list, the boot one
# the init scripts too, which take a second.

root_stamp() { cat "$GUEST/build.sh" "$GUEST/packages" | sha256sum; }
boot_stamp() { cat "$GUEST/build.sh" "$GUEST/packages" "$GUEST"/*-init | sha256sum; }

# is_built NAME STAMP
is_built() { [[ -r $LAB/$1.stamp && $(<"$LAB/$1.stamp") == "$2" ]]; }

build_guest() {
  if ! is_built root "$(root_stamp)"; then
    need_root "building the lab guest"
    rm -f "$LAB"/{root,boot}.stamp
    build_root
    build_kernel
    build_disks
    root_stamp >"$LAB/root.stamp"
  fi
  if ! is_built boot "$(boot_stamp)"; then
    need_root "building the lab guest's initramfs"
    build_initramfs
    boot_stamp >"$LAB/boot.stamp"
  fi
}

# Settings of the machine's apt that reaching an archive depends on.
apt_access_options() {
  local name value
  for name in Acquire::http::Proxy Acquire::https::Proxy Acquire::Check-Valid-Until; do
    value=''
    eval "$(apt-config shell value "$name")"
    [[ -n $value ]] && printf -- '--aptopt=%s "%s";\n' "$name" "$value"
  done
  return 0
}

build_root() {
  local include mirror keyring start options
  start=$(now)
  say "building the guest's root from Debian 13 packages (about 200 MB to download)"
  include=$(sed '/^#/d; /^$/d' "$GUEST/packages" | paste -sd,)
  mirror=$(machine_mirror)
  keyring=$(archive_keyring)
  mapfile -t options < <(apt_access_options)
  rm -rf --one-file-system "$LAB/root" "$LAB/root.new"
  mmdebstrap --variant=minbase --include="$include" "${options[@]}" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$LAB/root.new" "deb [signed-by=$keyring] $mirror trixie main" \
    >"$LAB/root.log" 2>&1 ||
    die "mmdebstrap failed: $(tail -n 4 "$LAB/root.log" | tr '\n' ' ')" "see $LAB/root.log"
  unpack_modules "$LAB/root.new"
  mv "$LAB/root.new" "$LAB/root"
  say "guest root built in $(since "$start") s, $(du -sh "$LAB/root" | cut -f1)"
}

# Unpacking a module under emulation costs more than reading a larger one. Done for
# those the guest is likely to load; all of them take minutes and 350 MB.
unpack_modules() {
  local root=$1 version
  version=$(ls "$root/lib/modules")
  local dir=lib/modules/$version/kernel
  (
    cd "$root" || exit
    find "$dir"/{net,fs,crypto,lib,arch} "$dir"/drivers/{virtio,block,nvme,char} \
      "$dir/drivers/net/ethernet/intel" -name '*.ko.xz' -print0
    find "$dir/drivers/net" -maxdepth 1 -name '*.ko.xz' -print0
  ) | xargs -0 -n 200 chroot "$root" xz -d
  chroot "$root" depmod "$version"
  rm -f "$root"/boot/initrd.img-*
}

# The kernel uncompressed: QEMU boots it directly (PVH), which saves a second of
# emulated decompression. It is one of the zstd streams inside vmlinuz.
build_kernel() {
  local image offset
  image=$(echo "$LAB"/root/boot/vmlinuz-*)
  while read -r offset; do
    # What follows the stream is no zstd, so it always ends with an error.
    tail -c "+$((offset + 1))" "$image" | chroot "$LAB/root" zstd -dcq >"$LAB/vmlinux" 2>/dev/null || true
    if [[ $(head -c 4 "$LAB/vmlinux" | tail -c 3) == ELF ]]; then
      return
    fi
  done < <(LC_ALL=C grep -aboP '\x28\xb5\x2f\xfd' "$image" | cut -d: -f1)
  die "no kernel inside ${image##*/}" "the guest's kernel is not zstd-compressed any more"
}

# disk NAME SIZE MKFS...: a sparse image, made by the guest's own mkfs so that its
# kernel knows every feature on it.
disk() {
  local name=$1 size=$2 image=$LAB/root/disk.img
  shift 2
  rm -f "$image"
  truncate -s "$size" "$image"
  chroot "$LAB/root" "$@" /disk.img >"$LAB/mkfs.log" 2>&1 ||
    die "cannot format the $name disk: $(tail -n 2 "$LAB/mkfs.log")"
  mv "$image" "$LAB/$name.img"
}

build_disks() {
  disk xfs 4G mkfs.xfs -q
  disk ext4 2G mkfs.ext4 -q -O quota,project -E quotatype=prjquota
  disk nvme 2G mkfs.xfs -q
  disk slow 2G mkfs.xfs -q
}

# Uncompressed on purpose: it is small, and unpacking is emulated too.
build_initramfs() {
  local tree=$LAB/initramfs name
  rm -rf "$tree"
  mkdir -p "$tree"/{bin,proc,sys,dev,newroot,modules}
  cp "$LAB/root/usr/bin/busybox" "$tree/bin/"
  for name in sh mount cat cp echo mkdir sleep insmod switch_root; do
    ln -s busybox "$tree/bin/$name"
  done
  module_files overlay 9p 9pnet_virtio >"$tree/modules/list"
  while read -r name; do
    cp "$LAB/root$name" "$tree/modules/"
    echo "${name##*/}"
  done <"$tree/modules/list" >"$tree/modules/order"
  install -m 755 "$GUEST/initramfs-init" "$tree/init"
  install -m 755 "$GUEST/guest-init" "$tree/guest-init"
  (cd "$tree" && find . -printf '%P\n' | tail -n +2 >"$LAB/initramfs.list")
  rm -rf "$LAB/root/initramfs"
  mv "$tree" "$LAB/root/initramfs"
  chroot "$LAB/root" sh -c 'cd /initramfs && cpio -o -H newc --quiet' \
    <"$LAB/initramfs.list" >"$LAB/initramfs.cpio"
  rm -rf "$LAB/root/initramfs" "$LAB/initramfs.list"
}

# module_files MODULE...: their files and those they need, in loading order.
module_files() {
  local version module
  version=$(ls "$LAB/root/lib/modules")
  for module in "$@"; do
    chroot "$LAB/root" modprobe -S "$version" --show-depends "$module"
  done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}
