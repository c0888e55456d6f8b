#!/usr/bin/env bash
# Makes the guest of ./run: make-guest.sh FOLDER [PACKAGE]
# FOLDER gets vmlinuz, initrd.img and root.img: Debian's cloud kernel (or that of another package) and its modules, unmodified, and busybox on
# an ext4 disk. The packages are downloaded by apt-get and unpacked, not installed. What is already there is kept.
# The exit status is 77 when they cannot be had.
set -euo pipefail

folder=$1
wanted=${2:-linux-image-cloud-amd64}
cannot_fetch=77
scripts=$(dirname "$(readlink -f "$0")")
# shellcheck source=scripts/packages.sh
. "$scripts/packages.sh"

[ ! -e "$folder/complete" ] || exit 0
mkdir -p "$folder/work"
folder=$(readlink -f "$folder")
work=$folder/work
PATH=$PATH:/usr/sbin:/sbin

# The package that the wanted one stands for, as this system's package lists have it.
kernel_package() {
    apt-cache depends "$wanted" 2>/dev/null | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }'
}

fetch() {
    local package=$1
    rm -rf "${work:?}/$package" && mkdir "$work/$package"
    (cd "$work" && rm -f "$package"_*.deb && apt-get -q -o APT::Sandbox::User=root download "$package" && dpkg-deb -x "$package"_*.deb "$package")
}

make_initrd() {
    local root=$work/initrd module
    rm -rf "$root" && mkdir -p "$root/bin" "$root/modules" "$root/dev" "$root/proc" "$root/root"
    cp "$busybox" "$root/bin/busybox"
    # In the order in which they need each other; one that is built in is not there.
    for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk crc16 crc32c_generic mbcache jbd2 ext4; do
        find "$kernel_tree" -name "$module.ko" -exec cp {} "$root/modules/" \;
    done
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
# Loads the drivers of the root disk, mounts it and goes over to it.
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk crc16 crc32c_generic mbcache jbd2 ext4; do
    [ -e /modules/$module.ko ] && busybox insmod /modules/$module.ko
done
tries=0
until [ -b /dev/vda ] || [ $tries = 100 ]; do
    busybox sleep 0.1
    tries=$((tries + 1))
done
if busybox mount -t ext4 /dev/vda /root; then
    busybox umount /proc
    busybox mount -o move /dev /root/dev
    exec busybox switch_root /root /sbin/init
fi
echo "no root file system on /dev/vda: this is the shell of the initial RAM disk"
exec busybox sh
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet --owner=0:0) | gzip -6 >"$folder/initrd.img"
}

make_root() {
    local root=$work/root applet
    rm -rf "$root" && mkdir -p "$root"/{bin,sbin,etc,dev,proc,sys,tmp,root,usr/bin,usr/sbin,var/log}
    cp "$busybox" "$root/bin/busybox"
    for applet in $("$busybox" --list-full); do
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
    cat >"$root/etc/inittab" <<'INITTAB'
::sysinit:/etc/rc
ttyS0::respawn:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
INITTAB
    cat >"$root/etc/rc" <<'RC'
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts && mount -t devpts devpts /dev/pts
hostname guest
ip link set lo up
cat /etc/motd
RC
    chmod +x "$root/etc/rc"
    cat >"$root/etc/profile" <<'PROFILE'
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root PS1='guest:\w\$ '
PROFILE
    printf '\nDebian kernel %s, busybox, root file system on /dev/vda. "poweroff" ends the machine.\n\n' "${package#linux-image-}" >"$root/etc/motd"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    rm -f "$folder/root.img"
    mke2fs -q -t ext4 -E root_owner=0:0 -L guest -d "$root" "$folder/root.img" 128M
}

package=$(kernel_package)
if [ -z "$package" ]; then
    as_root apt-get update -q || exit "$cannot_fetch"
    package=$(kernel_package)
fi
[ -n "$package" ] || { echo "the package lists of this system have no $wanted" >&2; exit "$cannot_fetch"; }

fetch "$package" || exit "$cannot_fetch"
fetch busybox-static || exit "$cannot_fetch"
busybox=$work/busybox-static/bin/busybox
kernel_tree=$work/$package
cp "$kernel_tree"/boot/vmlinuz-* "$folder/vmlinuz"
make_initrd
make_root
rm -rf "$work"
echo "$package" >"$folder/complete"
