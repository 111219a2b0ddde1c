# shellcheck shell=bash
# Makes keys and certificates for clusters of tests; sourced by kube-up.sh and cluster-up.sh.
# In:  kube_certify NAME SUBJECT EXTENSIONS SIGNING-OPTION…, in the folder that takes them.
# Out: NAME.key and NAME.crt, valid for 30 days. openssl talks on standard error when all is well.

kube_certify() {
  local name=$1 subject=$2 extensions=$3
  shift 3
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -subj "$subject" -out "$name.csr"
  openssl x509 -req -in "$name.csr" -days 30 -extfile <(printf '%s\n' "$extensions") -out "$name.crt" "$@"
}

# kube_make_ca COMMON-NAME: ca.key and ca.crt.
kube_make_ca() {
  kube_certify ca "/CN=$1" $'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,digitalSignature' -signkey ca.key
}

# kube_sign NAME SUBJECT EXTENSIONS: by ca.key.
kube_sign() { kube_certify "$@" -CA ca.crt -CAkey ca.key -CAcreateserial; }
