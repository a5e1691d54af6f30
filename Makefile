# dbopt: build, install and test.  See README.md.
#
#   make, make install, make installcheck    as for every PGXS extension
#   make check                               everything, in a throw-away server
#   make check-lint check-unit check-regress check-isolation check-pgtap check-exporter check-tap
#                                            one suite of it; REGRESS=..., ISOLATION=... and
#                                            TESTS=... select tests
#   make check-matrix                        on the PostgreSQL of newer Debian releases (as root)
#   make lint, make indent                   the source rules; the formatter
#   make demo, make bench, make compare      see it work; measure it, and other job queues beside it

PG_CONFIG ?= pg_config
export PG_CONFIG

# These install what they need before PGXS can be read, so they stand apart:
# with one of them among the goals, PGXS is left to a second make.
SUITES = check-lint check-unit check-regress check-isolation check-pgtap check-exporter check-tap
TOOLS = check $(SUITES) check-matrix lint indent demo bench compare

ifneq ($(filter $(TOOLS),$(MAKECMDGOALS)),)

srcdir := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))

.PHONY: $(MAKECMDGOALS)

check:
	@$(srcdir)/test/tools/check.sh

$(SUITES):
	@$(srcdir)/test/tools/check.sh $(@:check-%=%)

check-matrix:
	@$(srcdir)/test/tools/matrix.sh $(RELEASES)

lint:
	@$(srcdir)/test/tools/install-deps.sh
	@$(srcdir)/test/tools/lint.sh

indent:
	@$(srcdir)/test/tools/install-deps.sh
	@$(srcdir)/test/tools/lint.sh indent

demo:
	@$(srcdir)/test/tools/install-deps.sh
	@$(srcdir)/test/tools/demo.sh

bench:
	@$(srcdir)/test/tools/install-deps.sh bench
	@$(srcdir)/test/bench/bench.sh

compare:
	@$(srcdir)/test/tools/install-deps.sh
	@$(srcdir)/test/bench/compare.sh

$(filter-out $(TOOLS),$(MAKECMDGOALS)):
	@$(MAKE) -f $(firstword $(MAKEFILE_LIST)) $@

else

# Debian's server package brings PGXS, but not the headers.
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
server_header := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h

ifeq ($(and $(wildcard $(PGXS)),$(wildcard $(server_header))),)

.PHONY: all install installcheck clean
all install installcheck:
	@echo "dbopt: the server headers of PostgreSQL (15 or later) were not found with PG_CONFIG=$(PG_CONFIG)." >&2
	@echo "On Debian, install the package postgresql-server-dev-15; 'make check' installs all it needs." >&2
	@false
clean:
	rm -rf *.so src/*.o src/*.bc src/*/*.o src/*/*.bc results output_iso tmp_check tmp_check_iso log regression.diffs regression.out test/unit/build

else

# A build directory apart from the source: make -f /path/to/dbopt/Makefile
top := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
ifneq ($(abspath $(top)),$(CURDIR))
VPATH := $(abspath $(top))
top := $(VPATH)
endif
sources := $(patsubst $(top)/%,%,$(wildcard $(top)/src/*.c $(top)/src/*/*.c))
headers := $(wildcard $(top)/src/*.h $(top)/src/*/*.h)
tests = $(patsubst $(top)/test/$(1)/%.$(2),%,$(wildcard $(top)/test/$(1)/*.$(2)))

MODULE_big = dbopt
OBJS = $(sources:.c=.o)
EXTENSION = dbopt
DATA = $(patsubst $(top)/%,%,$(wildcard $(top)/sql/dbopt--*.sql))
PGFILEDESC = "dbopt - event delivery with retry, and index keeping"

# PostgreSQL's own headers and conventions are not clean under the three
# exceptions: fmgr arguments stay unused, List lengths are signed, and
# sentinels such as {NULL} leave fields out.
PG_CPPFLAGS = -I$(top)/src
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers

REGRESS = $(call tests,sql,sql)
REGRESS_OPTS = --inputdir=$(top)/test
# "make check" runs them all; some use test/module, which nothing else installs.
ISOLATION = $(filter-out $(basename $(notdir $(shell grep -l '/dbopt_test' $(top)/test/specs/*.spec))),$(call tests,specs,spec))
ISOLATION_OPTS = --inputdir=$(top)/test --outputdir=.
TAP_TESTS ?= 1
PROVE_TESTS = test/t/*.pl
EXTRA_CLEAN = log test/unit/build

include $(PGXS)

# The server's flags are those of the compiler it was built with.
ifneq ($(findstring clang,$(CC)),)
override CFLAGS += -Wno-unknown-warning-option -Wno-ignored-attributes -Wno-ignored-optimization-argument -Wno-unused-command-line-argument
endif

# PGXS knows no header dependencies.
$(OBJS) $(OBJS:.o=.bc): $(headers)

# pg_regress looks for expected output below --inputdir, or where it is run.
ifdef VPATH
$(shell mkdir -p $(dir $(OBJS)))
.PHONY: link-expected
link-expected:
	@[ -e expected ] || ln -s $(top)/expected expected
installcheck: link-expected
endif

endif
endif
