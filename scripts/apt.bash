# Debian's own packages of any release, through a private apt configuration made from this machine's: neither its sources
# nor its packages are changed, and nothing is installed. Sourced after lines.bash, not run.

apt=$root/target/postgres-source/.apt

# The repositories this machine uses for its own release, for the sources and packages of another.
sources_of() {
    local keyring=/usr/share/keyrings/debian-archive-keyring.gpg uri signed=
    [ -e "$keyring" ] && signed="[signed-by=$keyring]"
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' 'Component: main' | sort -u |
        sed -nE 's/ [a-z]+$//p' | while read -r uri; do
        echo "deb $signed $uri $1 main"
        echo "deb-src $signed $uri $1 main"
    done
}

# apt-get or apt-cache, named second, that knows only the release in $1.
private() {
    local of=$apt/$1 program=$2
    shift 2
    "$program" -qq -o Dir::State="$of" -o Dir::Cache="$of" -o Dir::Etc::SourceList="$of/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root "$@"
}

refresh() {
    mkdir -p "$apt/$1/lists/partial" "$apt/$1/archives/partial"
    sources_of "$1" >"$apt/$1/sources.list"
    [ -s "$apt/$1/sources.list" ] || fail "apt-get names no repository" "this needs Debian; unpack what is wanted by hand below $root/target"
    private "$1" apt-get update
}
