#!/bin/bash
# Builds the slow half of a guest image: kernel, root file system, base of the initramfs. Called by engine/runtime/image.py,
# which adds /init and the agent. Everything comes from this machine's own apt sources; nothing here names a mirror.
#
# The same package versions and builder's tools give the same bytes, whoever builds, where and when. What would get in the
# way: times, the builder's umask, host name and resolv.conf, logs, caches, back-ups, hash seeds, the day accounts were made.
#
#   OUT        folder to fill: vmlinuz rootfs.erofs initrd-base.img, and for the manifest packages.tsv epoch kernel
#   WORK       scratch folder (removed by the caller)
#   PACKAGES   comma-separated Debian packages of the root
#   MODULES    space-separated kernel modules that /init loads, in this order
#   FILES      folder whose content is copied over the root (may be empty)
#   SETUP      script run inside the root at the end (may be empty)
set -euo pipefail
umask 022
# While the root is made, any constant will do; its files then get the date of the newest package (see `tidy`).
export LC_ALL=C.UTF-8 TZ=UTC PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=1735689600
. /etc/os-release
SUITE=${SUITE:-$VERSION_CODENAME}

say() { echo "==> $*"; }

eval "$(apt-config shell LIST Dir::Etc::sourcelist/f PARTS Dir::Etc::sourceparts/d)"
SOURCES=()
for f in "$LIST" "${PARTS%/}"/*.list "${PARTS%/}"/*.sources; do
  if grep -qsE '^(deb|Types:)' "$f"; then SOURCES+=("$f"); fi
done
[ ${#SOURCES[@]} -gt 0 ] || { echo "no apt sources on this machine: add some to /etc/apt/sources.list" >&2; exit 1; }

# As root plainly; otherwise in mmdebstrap's user namespace, where the files of the root are ours.
AS_ROOT=(); [ "$(id -u)" = 0 ] || AS_ROOT=(mmdebstrap --unshare-helper)
mkdir -p "$WORK/out"; chmod 711 "$WORK"; chmod 777 "$WORK/out"
[ "$(id -u)" = 0 ] || trap '"${AS_ROOT[@]}" rm -rf "$WORK/out"/* || true' EXIT

# Kernel and static busybox serve the initramfs only: fetched through the same sources, kept out of the root.
cat > "$WORK/fetch-kernel" <<'X'
#!/bin/sh
set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
mkdir -p "$KERNEL/debs"; cd "$KERNEL/debs"
for meta in linux-image-cloud-amd64 linux-image-virtual; do
  image=$(apt-cache depends "$meta" 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -1)
  [ -z "$image" ] || break
done
[ -n "$image" ] || { echo "the apt sources offer no kernel for virtual machines" >&2; exit 1; }
modules=$(echo "$image" | sed 's/linux-image-/linux-modules-/')   # Ubuntu keeps them apart
apt-cache show "$modules" >/dev/null 2>&1 || modules=
apt-get -qq -o APT::Sandbox::User=root download busybox-static "$image" $modules
for deb in *.deb; do
  dpkg-deb -x "$deb" "$KERNEL"
  dpkg-deb -W --showformat="kernel\t$FIELDS" "$deb" >> "$KERNEL/packages.tsv"
done
rm -r "$KERNEL/debs"
X
export KERNEL="$WORK/out/kernel"
export FIELDS='${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n'

# Last of the hooks: takes out what belongs to the builder and not to the packages.
cat > "$WORK/tidy" <<'X'
#!/bin/sh
set -e
cd "$1"
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* var/lib/apt/lists/* var/cache/apt/*.bin var/cache/apt/archives/*.deb
rm -f etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid- var/lib/dpkg/*-old var/cache/debconf/*-old
rm -f var/cache/ldconfig/aux-cache
find var/log -type f -delete
# The agent names each VM; names of hosts are resolved by Signalbox, so the builder's resolver has no business here.
rm -f etc/hostname etc/resolv.conf; echo vm > etc/hostname; : > etc/resolv.conf; [ ! -e etc/machine-id ] || : > etc/machine-id
# Nobody in a VM becomes somebody else: a step runs as `step`, the agent as root.
find . -xdev -type f -perm /6000 -exec chmod ug-s {} +
# The newest date that any package brought: dpkg keeps the times of its files, and Debian builds them no younger than the
# package's changelog. Not the date of the apt archive: that moves daily while the packages stay the same.
epoch=$({ sed 's/^[0-9a-f]*  //' var/lib/dpkg/info/*.md5sums | tr '\n' '\0' | xargs -0 stat -c %Y -- 2>/dev/null || true
  stat -c %Y "$KERNEL"/boot/vmlinuz-*; } | sort -n | tail -1)
echo "$epoch" > "$KERNEL/epoch"
sed -i -E "s/^(([^:]*:){2})[0-9]+:/\1$((epoch / 86400)):/" etc/shadow
X
chmod 755 "$WORK/fetch-kernel" "$WORK/tidy"

HOOKS=(--customize-hook="$WORK/fetch-kernel")
HOOKS+=(--customize-hook='chroot "$1" useradd -u 1000 -m -d /step -s /bin/bash step')
# Unchecked: a VM that starts Python neither compares times nor hashes sources; nobody edits them in a read-only root.
HOOKS+=(--customize-hook='chroot "$1" python3 -m compileall -qf --invalidation-mode unchecked-hash /usr/lib/python3 /usr/lib/python3.* >/dev/null 2>&1 || true')
HOOKS+=(--customize-hook='mkdir -p "$1/usr/share/signalbox"; chroot "$1" dpkg-query -W > "$1/usr/share/signalbox/packages.txt"')
HOOKS+=(--customize-hook='chroot "$1" dpkg-query -W --showformat="root\t$FIELDS" >> "$KERNEL/packages.tsv"')
if [ -n "${FILES:-}" ]; then HOOKS+=(--customize-hook="cp -a --no-preserve=ownership '$FILES'/. \"\$1\"/"); fi
if [ -n "${SETUP:-}" ]; then HOOKS+=(--customize-hook="cp '$SETUP' \"\$1/setup\"; chmod 755 \"\$1/setup\"; chroot \"\$1\" /setup; rm \"\$1/setup\""); fi
HOOKS+=(--customize-hook="$WORK/tidy")

say "root file system from ${#SOURCES[@]} apt source file(s), suite $SUITE (a minute or two)"
mmdebstrap --variant=essential --format=directory --aptopt='Apt::Install-Recommends "false"' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include="$PACKAGES" "${HOOKS[@]}" "$SUITE" "$WORK/out/root" "${SOURCES[@]}" 2>&1

say "compressing the root"
SOURCE_DATE_EPOCH=$(cat "$KERNEL/epoch")
# /dev is the kernel's own in a VM, and a plain user could not make its nodes here; nor is its date then the package's.
"${AS_ROOT[@]}" touch -d "@$SOURCE_DATE_EPOCH" "$WORK/out/root/dev"
"${AS_ROOT[@]}" mkfs.erofs -zlz4hc -x-1 --exclude-regex='^dev/.' -T"$SOURCE_DATE_EPOCH" -U 00000000-0000-0000-0000-000000000000 \
  "$WORK/out/rootfs.erofs" "$WORK/out/root" > "$WORK/mkfs.log" 2>&1 || { tail -5 "$WORK/mkfs.log" >&2; exit 1; }
cp "$WORK/out/rootfs.erofs" "$OUT/rootfs.erofs"
LC_ALL=C sort "$KERNEL/packages.tsv" > "$OUT/packages.tsv"; cp "$KERNEL/epoch" "$OUT/epoch"

say "kernel and modules"
VERSION=$(ls "$KERNEL/lib/modules")
cp "$KERNEL/boot/vmlinuz-$VERSION" "$OUT/vmlinuz"; echo "$VERSION" > "$OUT/kernel"
INITRD="$WORK/initrd"; mkdir -p "$INITRD"/{bin,dev,proc,sys,lower,rw,newroot,m}
cp "$KERNEL/bin/busybox" "$INITRD/bin/" 2>/dev/null || cp "$KERNEL/usr/bin/busybox" "$INITRD/bin/"
ln -s busybox "$INITRD/bin/sh"
[ "$(id -u)" = 0 ] || "${AS_ROOT[@]}" chown -R 0:0 "$KERNEL"
"${AS_ROOT[@]}" /sbin/depmod -b "$KERNEL" "$VERSION"
number=100
for module in $MODULES; do
  # modprobe fails for an unknown module and says "builtin" for one that the kernel holds already
  for file in $(/sbin/modprobe -d "$KERNEL" -S "$VERSION" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'); do
    name=$(basename "$file"); plain=${name%.xz}; plain=${plain%.zst}; plain=${plain%.gz}
    compgen -G "$INITRD/m/*-$plain" >/dev/null && continue
    case $name in *.xz) xz -dc "$file" ;; *.zst) zstd -qdc "$file" ;; *.gz) gzip -dc "$file" ;; *) cat "$file" ;; esac \
      > "$INITRD/m/$number-$plain"
    number=$((number + 1))
  done
  /sbin/modprobe -d "$KERNEL" -S "$VERSION" --show-depends "$module" >/dev/null || { echo "no kernel module $module" >&2; exit 1; }
done
find "$INITRD" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$INITRD" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 --reproducible) > "$OUT/initrd-base.img"
say "kernel $VERSION, $((number - 100)) modules, root $(du -h "$OUT/rootfs.erofs" | cut -f1)"
