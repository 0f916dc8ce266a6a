# What there is to make; each target brings what it needs. build.sh does the compiling.

MAKEFLAGS += --no-print-directory
# For the shell to expand: make remembers what was in a folder before npm filled it.
NODE = node_modules/node-*/bin/node
RELEASE ?=
DEBUG ?=
BUILD = ./build.sh $(if $(RELEASE),--release $(RELEASE)) $(if $(DEBUG),--debug)
# What BUILD has built, for a program of the host.
BUILT = $(if $(RELEASE),ZOW_RELEASE=$(RELEASE)) $(if $(DEBUG),ZOW_WASM=build/$(or $(RELEASE),$(DEFAULT))/wasm-debug)
DEFAULT = $(shell sed -n 's/.*"default": "\(.*\)".*/\1/p' zfs-src/releases.json)

.PHONY: all wasm bundle native dist run test test-ready lint crash fuzz soak bench clean distclean help

all: bundle			## build the core and the programs, and the distributable bundle in dist/

wasm:				## compile the core and the programs to WebAssembly
	@$(BUILD) wasm

bundle: wasm
	@$(if $(RELEASE),ZOW_RELEASE=$(RELEASE)) $(NODE) cli/bundle.ts

dist: bundle			## packages in build/packages: one executable file, a Debian package, an npm package; K=single only that
	@$(NODE) packaging/dist.ts $(K)

native:				## build zpool, zfs, zdb, zstream, zinject, ztest for this machine (cli/native/bin)
	@$(BUILD) native

run: bundle			## serve an example pool: a mirror of two sparse files and a volume
	@cli/bin/zow serve examples/pool.yaml

test: test-ready		## lint, then run all tests; T="test/host/nbd/*" runs some
	@$(NODE) test/run.ts $(T)

test-ready: bundle native
	@./build.sh $(if $(filter 1,$(ZOW_LONG)),wasm,check) --release 2.3.2
	@./build.sh test-tools

lint:				## types, format and style of all TypeScript and C
	@$(BUILD) fetch
	@$(NODE) test/lint.ts

crash: wasm native		## explore 2,000 power cuts of each pool layout; L=mirror only of one, N=100 so many, S=7 with this seed
	@$(NODE) test/crash/explore.ts $(or $(L),all) $(or $(N),2000) $(or $(S),1)

fuzz: wasm				## fuzz the core's ioctls, NBD, iSCSI, the ioctl socket; N=1000000 inputs each, S=7 with this seed, DEBUG=1 where upstream asserts
	@$(BUILT) $(NODE) test/fuzz/core.ts $(or $(N),100000) $(or $(S),1)
	@$(BUILT) $(NODE) test/fuzz/nbd.ts $(or $(N),100000) $(or $(S),1)
	@$(BUILT) $(NODE) test/fuzz/iscsi.ts $(or $(N),100000) $(or $(S),1)
	@$(BUILT) $(NODE) test/fuzz/ioctl.ts 60 $(or $(S),1)

soak: bundle native		## pools with failing disks, and one that must not notice, for two hours; T=30 minutes, S=7 with this seed, X=stop without
	@$(BUILD) wasm --debug
	@./build.sh test-tools
	@$(NODE) test/soak/soak.ts $(or $(T),120) $(or $(S),1) $(X)

bench: wasm native		## measure volumes over NBD beside nbdkit and qemu-nbd, streams, and the parts alone
	@./build.sh test-tools
	@for part in volumes streams nbd ioctl devices metrics; do \
		echo "== $$part"; $(NODE) test/bench/$$part.ts || exit 1; done

clean:				## remove what was built
	@./build.sh clean

distclean: clean		## remove downloads, unpacked sources and npm packages too
	@rm -rf zfs-src/cache zfs-src/upstream node_modules

help:				## show this
	@echo "make [TARGET] [RELEASE=2.4.3|2.3.2] [DEBUG=1]"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 14
