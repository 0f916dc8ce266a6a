#!/usr/bin/env bash
# Builds ZoW: brings the tools and the pinned sources, then compiles. Everything after the tools is zfs-src/build.ts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
	cat <<'EOF'
usage: build.sh [TARGET...] [--release R] [--debug]

targets:
  fetch       bring, verify and unpack the sources of the release
  wasm        compile the core and the programs to WebAssembly (the default)
  core        only the core, zow.wasm
  check       whether the core compiles and links, without optimising it
  native      compile zpool, zfs, zdb, zstream, zinject, ztest and test programs of upstream's for this
              machine: cli/native/bin for the default release, else build/RELEASE/native/bin
  all         wasm and native
  test-tools  install what the tests drive ZoW with: qemu-utils, fio, libnbd-bin, nbdkit, libiscsi-bin, prometheus, chromium, ...
  clean       remove what was built; the unpacked sources and the downloads stay

options:
  --release R   an OpenZFS release of zfs-src/releases.json
  --debug       assertions on (ZFS_DEBUG), names and line numbers kept

environment:
  ZFS_TARBALL   use this OpenZFS tarball; its checksum, or that of its sources, must be the release's
  ZFS_TREE      use the OpenZFS sources in this folder, a checkout or an exported tree (docs/rebasing.md)
  LIBC_TARBALL  use this wasi-libc tarball, likewise
EOF
}

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

# bring REASON PACKAGE...: installs packages, or says which are missing and why.
bring() {
	local what=$1
	shift
	local -a packages=("$@")
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		fail "$what: install the packages ${packages[*]} (as root on Debian this is done for you)"
	fi
	echo "build.sh: $what: installing ${packages[*]}" >&2
	local log
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
		local reason
		reason=$(grep -E '^E:' "$log" | head -n 1 || true)
		rm -f "$log"
		fail "apt-get could not install ${packages[*]}: ${reason:-see apt-get install}"
	fi
	rm -f "$log"
}

# A clang, lld and llvm-ar of version 19, or unversioned ones (zfs-src/tools.ts checks how old).
bring_wasm_tools() {
	local tool
	local -A package=([clang]=clang-19 [wasm-ld]=lld-19 [llvm-ar]=llvm-19)
	local -a missing=()
	for tool in clang wasm-ld llvm-ar; do
		if ! command -v "$tool-19" >/dev/null; then
			missing+=("${package[$tool]}")
		fi
	done
	# compiler-rt for wasm32 is in a package of its own.
	compgen -G '/usr/lib/llvm-19/lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a' >/dev/null ||
	    missing+=(libclang-rt-19-dev-wasm32)
	if [ "${#missing[@]}" -gt 0 ]; then
		# Without Debian's packages at hand, unversioned tools of another origin will do.
		if command -v clang >/dev/null && command -v wasm-ld >/dev/null && command -v llvm-ar >/dev/null &&
		    { [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; }; then
			return
		fi
		bring "the WebAssembly toolchain is missing" "${missing[@]}"
	fi
}

bring_native_tools() {
	local header
	local -A package=([blkid/blkid.h]=libblkid-dev [uuid/uuid.h]=uuid-dev [zlib.h]=zlib1g-dev
	    [openssl/evp.h]=libssl-dev [tirpc/rpc/xdr.h]=libtirpc-dev)
	local -a missing=()
	command -v gcc >/dev/null || missing+=(gcc libc6-dev)
	for header in "${!package[@]}"; do
		# Debian keeps OpenSSL's headers in /usr/include/openssl, some derivatives in a folder of the architecture.
		if ! compgen -G "/usr/include/$header" >/dev/null && ! compgen -G "/usr/include/*-linux-*/$header" >/dev/null; then
			missing+=("${package[$header]}")
		fi
	done
	if [ "${#missing[@]}" -gt 0 ]; then
		bring "libraries of the native programs are missing" "${missing[@]}"
	fi
}

# bring_commands REASON COMMAND=PACKAGE...: the packages of those commands that are not there.
bring_commands() {
	local reason=$1 pair
	shift
	local -a missing=()
	for pair in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
	done
	if [ "${#missing[@]}" -gt 0 ]; then
		bring "$reason" "${missing[@]}"
	fi
}

# Clients of block devices that the tests drive ZoW with.
bring_test_tools() {
	bring_commands "programs the tests use are missing" qemu-img=qemu-utils fio=fio nbdcopy=libnbd-bin \
	    nbdkit=nbdkit nbdsh=python3-libnbd openssl=openssl python3=python3 \
	    iscsi-test-cu=libiscsi-bin promtool=prometheus chromium=chromium chromedriver=chromium-driver \
	    fusermount3=fuse3 mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs mount=mount perl=perl cc=gcc
	# Of libnbd-bin in Debian 12, a package of its own since.
	bring_commands "programs the tests use are missing" nbdfuse=nbdfuse
	# qemu's driver for iSCSI is a module of its own.
	if ! compgen -G '/usr/lib/*/qemu/block-iscsi.so' >/dev/null; then
		bring "programs the tests use are missing" qemu-block-extra
	fi
	# The long forms of the tests run a database, too.
	if [ "${ZOW_LONG:-}" = 1 ] && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
		bring "the long tests use PostgreSQL" postgresql
	fi
}

bring_common_tools() {
	bring_commands "tools are missing" make=make tar=tar xz=xz-utils patch=patch flock=util-linux
	if [ ! -x "$(node_binary)" ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
		command -v npm >/dev/null || fail "npm is missing: install Node.js"
		echo "build.sh: installing npm packages" >&2
		# Not `npm ci`: it refuses a lock that lacks other platforms' optional packages, as some registries' mirrors do.
		npm install --no-save --no-progress --loglevel=error >&2 || fail "npm install failed"
		touch node_modules/.package-lock.json
	fi
}

# The Node 26 that npm brings, whatever the machine's own is.
node_binary() {
	local found
	found=$(compgen -G 'node_modules/node-*/bin/node' | head -n 1 || true)
	echo "${found:-node_modules/.no-node}"
}

targets=()
options=()
while [ $# -gt 0 ]; do
	case $1 in
	fetch | wasm | core | check | native | test-tools) targets+=("$1") ;;
	all) targets+=(wasm native) ;;
	clean)
		rm -rf build dist cli/native/bin
		[ $# -eq 1 ] && [ "${#targets[@]}" -eq 0 ] && exit 0
		;;
	--release) [ $# -ge 2 ] || fail "--release needs a release"; options+=(--release "$2"); shift ;;
	--release=* | --debug) options+=("$1") ;;
	-h | --help) usage; exit 0 ;;
	*) fail "unknown argument $1; see build.sh --help" ;;
	esac
	shift
done
[ "${#targets[@]}" -gt 0 ] || targets=(wasm)

# One build at a time in a checkout.
mkdir -p build
exec 9>build/.lock
if ! flock -n 9; then
	echo "build.sh: waiting for another build in this checkout" >&2
	flock 9
fi
bring_common_tools
if [ "${targets[*]}" = test-tools ]; then
	bring_test_tools
	exit 0
fi
case " ${targets[*]} " in *' wasm '* | *' core '* | *' check '*) bring_wasm_tools ;; esac
case " ${targets[*]} " in *' native '*) bring_native_tools ;; esac

exec "$(node_binary)" zfs-src/build.ts "${targets[@]}" "${options[@]}"
