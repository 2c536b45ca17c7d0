# shellcheck shell=bash
# Shared by the scripts here: progress lines, errors, and what has to be installed.
# Source it; it sets nothing but functions and REPO.

# shellcheck disable=SC2034 # for those who source this
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# say TEXT: a progress line, apart from the output of what it announces.
say() { printf '==> %s\n' "$*" >&2; }

# die TEXT...: the first line is the failure, further ones what to do about it.
die() {
  printf 'error: %s\n' "$1" >&2
  shift
  local line
  for line in "$@"; do printf '       %s\n' "$line" >&2; done
  exit 1
}

# now: seconds since some moment, with a fraction, for durations.
now() {
  local up
  read -r up _ </proc/uptime
  echo "$up"
}

# since START: seconds since START, one decimal.
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# have PROGRAM, by name, or FILE, by path.
have() { command -v "$1" >/dev/null 2>&1 || [[ $1 == /* && -e $1 ]]; }

# need_root WHY
need_root() {
  ((EUID == 0)) || die "$1 needs root" "run it again as root"
}

# distribution: ID and codename from os-release, for example `debian bookworm`.
distribution() {
  (
    ID='' VERSION_CODENAME=''
    # shellcheck source=/dev/null
    . /etc/os-release
    echo "$ID $VERSION_CODENAME"
  )
}

# can_install: whether this user, on this machine, may install packages by apt.
can_install() { ((EUID == 0)) && have apt-get; }

# The machine's own Debian suites as `URI SUITE`, one a line, each from the first source
# that has it. Asked with an empty list directory: apt then names everything it would
# read, also on a machine whose lists were deleted.
machine_suites() {
  local codename empty
  read -r _ codename < <(distribution)
  empty=$(mktemp -d)
  apt-get -o "Dir::State::Lists=$empty" update --print-uris |
    sed -nE "s|^'(.*)/dists/([^/]*)/main/binary-[a-z0-9]*/Packages[^']*'.*|\1 \2|p" |
    awk -v c="$codename" '($2 == c || $2 == c "-updates" || $2 == c "-security") && !seen[$2]++'
  rm -rf "$empty"
}

# machine_mirror: where this machine gets its own suite from; other suites of the
# distribution are there too. BERTH_LAB_MIRROR names another one.
machine_mirror() {
  local uri codename
  if [[ -n ${BERTH_LAB_MIRROR-} ]]; then
    echo "$BERTH_LAB_MIRROR"
    return
  fi
  read -r _ codename < <(distribution)
  uri=$(machine_suites | awk -v c="$codename" '$2 == c { print $1; exit }')
  [[ -n $uri ]] || die "apt on this machine names no source for $codename main" \
    "set BERTH_LAB_MIRROR to the address of a Debian mirror"
  echo "$uri"
}

archive_keyring() {
  local file
  for file in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
    if [[ -r $file ]]; then
      echo "$file"
      return
    fi
  done
  die "no keyring of the Debian archive" "install the package debian-archive-keyring"
}

# private_apt DIR [SUITE...]: an apt configuration in DIR with the machine's own Debian
# suites and these besides. Lists and cache are in DIR, so the machine's own sources and
# lists stay as they are.
private_apt() {
  local dir=$1 keyring mirror suite
  shift
  keyring=$(archive_keyring)
  mirror=$(machine_mirror)
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  {
    machine_suites | sed "s|^|deb [signed-by=$keyring] |; s|\$| main|"
    for suite in "$@"; do echo "deb [signed-by=$keyring] $mirror $suite main"; done
  } >"$dir/sources.list"
  APT_OPTIONS=(
    -q -o "Dir::Etc::SourceList=$dir/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o Acquire::Languages=none
  )
  apt-get "${APT_OPTIONS[@]}" update >"$dir/update.log" 2>&1 ||
    die "apt cannot read its sources: $(tail -n 3 "$dir/update.log" | tr '\n' ' ')" \
      "see $dir/update.log"
}

# install_packages DIR OPTION... -- PACKAGE...: after private_apt DIR. Refuses a plan that
# would remove something of the machine.
install_packages() {
  local dir=$1 options=()
  shift
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  shift
  local apt=(apt-get "${APT_OPTIONS[@]}" -y --no-install-recommends "${options[@]}")
  local plan
  plan=$("${apt[@]}" -s install "$@" 2>&1) ||
    die "apt cannot install $*" "$(grep -v '^\(Inst\|Conf\)' <<<"$plan" | tail -n 8)"
  if grep -q '^Remv' <<<"$plan"; then
    die "to install $*, apt would remove: $(awk '/^Remv/ { print $2 }' <<<"$plan" | tr '\n' ' ')" \
      "install them yourself, then run this again"
  fi
  DEBIAN_FRONTEND=noninteractive "${apt[@]}" install "$@" >"$dir/install.log" 2>&1 ||
    die "apt failed to install $*: $(tail -n 3 "$dir/install.log" | tr '\n' ' ')" \
      "see $dir/install.log"
}

# need_programs PACKAGE=PROGRAM...: installs the packages whose program is missing.
need_programs() {
  local pair missing=()
  for pair in "$@"; do have "${pair#*=}" || missing+=("${pair%%=*}"); done
  ((${#missing[@]} > 0)) || return 0
  can_install || die "missing on this machine: ${missing[*]}" \
    "run this as root on Debian 12 or 13, which installs them, or install them yourself"
  say "installing ${missing[*]}"
  private_apt "$REPO/target/apt"
  install_packages "$REPO/target/apt" -- "${missing[@]}"
}

# need_rust: cargo, by rustup, and a linker. The toolchain itself is named in
# rust-toolchain.toml; rustup fetches it when cargo is first called.
need_rust() {
  if ! have cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
    PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  fi
  if ! have cargo; then install_rustup; fi
  need_programs gcc=cc libc6-dev=/usr/include/stdio.h
}

# Debian 13 has rustup as a package, Debian 12 has none.
install_rustup() {
  local codename
  read -r _ codename < <(distribution)
  if [[ $codename == trixie ]]; then
    need_programs rustup=rustup
    return
  fi
  need_programs curl=curl ca-certificates=update-ca-certificates
  say "installing rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
    sh -s -- -y --no-modify-path --profile minimal --default-toolchain none >&2 ||
    die "rustup could not be installed" "install Rust (rustup.rs), then run this again"
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
}

# executables CARGO-ARGUMENT...: builds, and prints the path of every program built.
executables() {
  (cd "$REPO" && cargo "$@" --message-format=json-render-diagnostics) |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

# release_programs: builds the product's programs and prints their paths.
release_programs() { executables build --release --workspace --exclude berth-tests --bins; }

# reference_plugins: prints the directory with the reference CNI plugins in the newest
# version Debian has (that of sid), downloaded at the first call; their version is in
# target/reference/version. Remove target/reference to look for a newer one. Nothing is
# installed.
reference_plugins() {
  local dir=$REPO/target/reference package=containernetworking-plugins deb
  if [[ ! -s $dir/version ]]; then
    say "downloading $package from Debian's sid"
    { have apt-get && have dpkg; } || die "missing on this machine: apt-get or dpkg" "run this on Debian 12 or 13"
    private_apt "$dir/apt" sid
    rm -rf "$dir/root" "$dir"/apt/*.deb
    (cd "$dir/apt" && apt-get "${APT_OPTIONS[@]}" download "$package/sid") >"$dir/apt/download.log" 2>&1 ||
      die "apt cannot download $package: $(tail -n 3 "$dir/apt/download.log" | tr '\n' ' ')" \
        "see $dir/apt/download.log"
    deb=("$dir/apt/$package"_*.deb)
    dpkg -x "${deb[0]}" "$dir/root"
    dpkg-deb -f "${deb[0]}" Version >"$dir/version.new"
    # Last, and whole: a call that was interrupted is made again.
    mv "$dir/version.new" "$dir/version"
  fi
  echo "$dir/root/usr/lib/cni"
}
