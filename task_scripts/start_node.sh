#!/bin/bash
# The start task of the pool, elevated: leaves a Python with the packages below at $AZ_BATCH_NODE_SHARED_DIR/bin/python.
# Runs again on every reboot, then changes nothing. Passed inline as /bin/bash -c, so it holds no single quote.
# WITH_AZURE_CLI=1 installs az too. Whatever changes the machine is called through apt-get or sudo.
set -euo pipefail
umask 022
export DEBIAN_FRONTEND=noninteractive
packages="requests==2.34.2 azure-identity==1.27.0 msgspec==0.22.0 zstandard==0.25.0 duckdb==2.0.0"
shared=${AZ_BATCH_NODE_SHARED_DIR:?is not set: this is the start task of a Batch pool}
venv=$shared/venv
fail() { echo "start_node: $*" >&2; exit 1; }
note() { echo "start_node: $*" >&2; }
retry() {
  for pause in 5 20 60 0; do
    "$@" >&2 && return
    note "failed: $*"
    sleep "$pause"
  done
  return 1
}
suffices() { "$1" -I -c "import requests, azure.identity, msgspec, zstandard, duckdb" 2>/dev/null; }
install_packages() { apt-get update -q && apt-get install -qy -o DPkg::Lock::Timeout=300 "${missing[@]}"; }
install_azure_cli() {
  sudo curl -fsSL --retry 3 -o /tmp/install-azure-cli https://aka.ms/InstallAzureCLIDeb && sudo bash /tmp/install-azure-cli
}

python=$(command -v python3) || python=/usr/bin/python3
missing=()
command -v jq >/dev/null || missing+=(jq)
command -v curl >/dev/null || missing+=(curl)
suffices "$python" || "$python" -c "import ensurepip" 2>/dev/null || missing+=(python3-venv python3-pip)
if ((${#missing[@]})); then
  # A missing jq is no failure: no script here needs it. A missing venv shows below.
  retry install_packages || note "apt-get could not install ${missing[*]}"
fi

if ! suffices "$python"; then
  if [[ $(cat "$venv/packages" 2>/dev/null) != "$packages" ]] || ! suffices "$venv/bin/python"; then
    "$python" -m venv --clear "$venv" >&2 || fail "no virtual environment at $venv: is python3-venv there?"
    read -ra pinned <<<"$packages"
    retry "$venv/bin/python" -m pip install -q --disable-pip-version-check "${pinned[@]}" ||
      fail "pip could not install $packages: does the node reach the package index?"
    echo "$packages" >"$venv/packages"
  fi
  python=$venv/bin/python
fi

# A wrapper: through a symbolic link Python would not find its virtual environment.
mkdir -p "$shared/bin"
printf "#!/bin/sh\nexec \"%s\" \"\$@\"\n" "$python" >"$shared/bin/python.part"
chmod 755 "$shared/bin/python.part"
mv "$shared/bin/python.part" "$shared/bin/python"
suffices "$shared/bin/python" || fail "$shared/bin/python does not import $packages"

if [[ ${WITH_AZURE_CLI:-} == 1 ]] && ! command -v az >/dev/null; then
  # No failure either: the Bash script then asks the identity endpoint itself.
  retry install_azure_cli || note "the Azure CLI could not be installed"
fi
