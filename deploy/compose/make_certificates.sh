#!/bin/sh
# Makes what deploy/compose/tls.yml needs: an authority, and a server's certificate signed by it.
#
#   make_certificates.sh NAME      the name that clients know the server by
#
# /authority  ca.key             stays here
# /server     ca.pem server.pem server.key
# /ca         ca.pem             for clients
# What is there and good for another month stays as it is.
set -eu
umask 022
name=$1
month=2592000

if ! openssl x509 -in /authority/ca.pem -noout -checkend "$month" 2>/dev/null; then
  echo "making an authority, good for ten years"
  (umask 077 && openssl ecparam -name prime256v1 -genkey -noout -out /authority/ca.key)
  openssl req -x509 -new -key /authority/ca.key -days 3650 -subj "/CN=Barque compose authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -out /authority/ca.pem
  rm -f /server/server.pem
fi

if ! openssl x509 -in /server/server.pem -noout -checkend "$month" 2>/dev/null; then
  echo "making a certificate for $name, good for 397 days"
  # No other container than the server's has this volume; there the server's own user must read it.
  openssl ecparam -name prime256v1 -genkey -noout -out /tmp/server.key
  openssl req -new -key /tmp/server.key -subj "/CN=$name" -out /tmp/server.csr
  # Python 3.13 wants all of these.
  printf '%s\n' "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" "extendedKeyUsage=serverAuth" \
    "keyUsage=critical,digitalSignature" "basicConstraints=critical,CA:FALSE" \
    "subjectKeyIdentifier=hash" "authorityKeyIdentifier=keyid" >/tmp/extensions
  openssl x509 -req -in /tmp/server.csr -CA /authority/ca.pem -CAkey /authority/ca.key \
    -set_serial "0x$(openssl rand -hex 16)" -days 397 -extfile /tmp/extensions -out /tmp/server.pem 2>/dev/null
  cp /tmp/server.key /tmp/server.pem /server/
fi
cp /authority/ca.pem /server/ca.pem
cp /authority/ca.pem /ca/ca.pem
chmod 644 /server/*.pem /server/server.key /ca/ca.pem
echo "certificate of $name: $(openssl x509 -in /server/server.pem -noout -enddate)"
