#!/usr/bin/env bash
# Installs what the tests with real services, or `make deny`, need, and nothing that is there.
#
#   ci/install.sh services   Kafka's jars, the SMTP server, promtool, Chromium with its driver,
#                            axe-core, and what the examples in Python and Go need; prints
#                            `export` lines that name them, for the shell that runs the tests
#   ci/install.sh deny       cargo-deny
#
# Everything goes into $DOORWARD_TOOLS (default: the user's cache folder). Only Java, Maven,
# node, npm, Python, Go and Chromium, where they are missing, are installed as Debian packages,
# which needs root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly CARGO_DENY=0.20.2
readonly TOOLS="${DOORWARD_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/doorward/tools}"

# Standard output is for the `export` lines alone.
exec 3>&1 >&2

say() { echo "install: $*"; }
die() { say "$*"; exit 1; }
has() { command -v "$1" > /dev/null; }

updated=
apt_update() {
    [ -n "$updated" ] || apt-get update -qq
    updated=yes
}

# Makes sure that the command $1 exists; else installs the packages that follow.
need() {
    local command=$1
    shift
    has "$command" && return
    has apt-get || die "\`$command\` is missing: install it, then run this again"
    [ "$(id -u)" = 0 ] || die "\`$command\` is missing: run \`sudo apt-get install $*\`, then this again"
    say "installing $*"
    apt_update
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

# The folder in $TOOLS for what the file $2 describes: another one when the file changes.
folder_for() { echo "$TOOLS/$1-$(cksum < "$2" | cut -d ' ' -f 1)"; }

# Fills the folder $1 by the command that follows, all or nothing.
fill() {
    local folder=$1
    shift
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    "$@" "$folder.new"
    mv "$folder.new" "$folder"
}

fill_kafka() {
    need mvn maven
    say "fetching Kafka's jars"
    mvn -B -q -f kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$1"
}

fill_smtp() {
    need npm npm
    say "fetching the SMTP server"
    cp smtp/package.json smtp/package-lock.json "$1"
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

fill_axe() {
    need npm npm
    say "fetching axe-core"
    cp browser/package.json browser/package-lock.json "$1"
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

# Taken out of its package rather than installed: installing starts a Prometheus server.
fill_promtool() {
    has apt-get || die '`promtool` is missing: install Prometheus, then run this again'
    say 'fetching promtool'
    if [ "$(id -u)" = 0 ]; then apt_update; fi
    (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root prometheus) \
        || die '`apt-get download prometheus` failed: run `sudo apt-get update`, then this again'
    dpkg-deb -x "$1"/prometheus_*.deb "$1"
    mv "$1/usr/bin/promtool" "$1/promtool"
    rm -rf "$1/usr" "$1/etc" "$1/lib" "$1/var" "$1"/prometheus_*.deb
}

fill_python() {
    python3 -m pip --version > /dev/null 2>&1 || need pip3 python3-pip
    say "fetching Python's Kafka client"
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore \
        --target "$1" -r ../examples/python/requirements.txt
}

# Modules and compiled packages, so that the test builds the example in a second.
fill_go() {
    local version
    version="$(go env GOVERSION)"
    case "$version" in
        go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.2[0-3]*)
            die "Go 1.24 or newer is needed, this is $version" ;;
    esac
    say "fetching and compiling Go's Kafka client"
    (cd ../examples/go && GOMODCACHE="$1/mod" GOCACHE="$1/build" GOFLAGS=-modcacherw \
        go build -o /dev/null .)
}

install_services() {
    # A compiler too: the example in Java is run from its source.
    need javac openjdk-17-jdk-headless
    need node nodejs
    need python3 python3
    need go golang-go
    has chromium-browser || need chromium chromium chromium-driver
    need chromedriver chromium-driver
    local kafka smtp promtool python go axe
    kafka="$(folder_for kafka kafka/pom.xml)"
    [ -d "$kafka" ] || fill "$kafka" fill_kafka
    smtp="$(folder_for smtp smtp/package-lock.json)"
    [ -d "$smtp" ] || fill "$smtp" fill_smtp
    if has promtool; then
        promtool="$(command -v promtool)"
    else
        promtool="$TOOLS/prometheus/promtool"
        [ -x "$promtool" ] || fill "$TOOLS/prometheus" fill_promtool
    fi
    axe="$(folder_for axe browser/package-lock.json)"
    [ -d "$axe" ] || fill "$axe" fill_axe
    python="$(folder_for python ../examples/python/requirements.txt)"
    [ -d "$python" ] || fill "$python" fill_python
    go="$(folder_for go ../examples/go/go.sum)"
    [ -d "$go" ] || fill "$go" fill_go
    printf "export %s='%s'\n" DOORWARD_KAFKA_LIB "$kafka" DOORWARD_SMTP_NODE "$smtp" \
        DOORWARD_PROMTOOL "$promtool" DOORWARD_PYTHON_LIB "$python" DOORWARD_GO_CACHE "$go" \
        DOORWARD_CHROMIUM "$(command -v chromium || command -v chromium-browser)" \
        DOORWARD_CHROMEDRIVER "$(command -v chromedriver)" \
        DOORWARD_AXE "$axe/node_modules/axe-core/axe.min.js" >&3
}

install_deny() {
    local installed
    installed="$("$TOOLS/bin/cargo-deny" --version 2> /dev/null || true)"
    [ "$installed" = "cargo-deny $CARGO_DENY" ] && return
    say "compiling cargo-deny $CARGO_DENY; this takes minutes, once"
    # Its own build folder: it shares nothing with this project's.
    env -u CARGO_TARGET_DIR \
        cargo install -q --locked --force --root "$TOOLS" "cargo-deny@$CARGO_DENY"
}

mkdir -p "$TOOLS"
case "${1:-}" in
    services) install_services ;;
    deny) install_deny ;;
    *) die 'usage: ci/install.sh services|deny' ;;
esac
