#!/bin/sh
# Makes the base image `debian:bookworm-slim` from Debian's packages, where no registry can be reached. Wants root
# (debootstrap makes device files) and the docker command. Does nothing when the image is there.
#
# usage: images/base.sh [IMAGE]          the suite is the tag without `-slim`
set -eu

image=${1:-debian:bookworm-slim}
suite=${image##*:}
suite=${suite%-slim}

docker image inspect "$image" >/dev/null 2>&1 && exit 0
if ! command -v debootstrap >/dev/null; then
    echo "error: $image is made by debootstrap, which is not installed" >&2
    echo "  help: apt-get install debootstrap" >&2
    exit 1
fi

root=$(mktemp -d "${TMPDIR:-/var/tmp}/base.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT INT TERM
debootstrap --variant=minbase "$suite" "$root" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; rm -f "$root.log"; exit 1; }
rm -f "$root.log"
# As the published image has it: services of packages do not start within a build.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar -C "$root" --numeric-owner -c . | docker import --change 'CMD ["bash"]' - "$image" >/dev/null
echo "made $image"
