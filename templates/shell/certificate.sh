# The certificate of the front door.

make_certificate() {
  [ "$CERTIFICATE" != off ] || return 0
  tls=/etc/$NAME/tls
  if [ "$CERTIFICATE" = self-signed ]; then
    openssl x509 -noout -checkhost "$FRONT_HOST" -in "$tls/certificate.pem" </dev/null 2>/dev/null |
      grep -q 'does match' && return 0
    step certificate "self-signed, for $FRONT_HOST"
    (umask 077 && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
      -subj "/CN=$NAME" -addext "subjectAltName=DNS:$FRONT_HOST" \
      -keyout "$work/key.pem" -out "$work/certificate.pem" </dev/null 2>/dev/null) || refuse 'openssl makes no certificate'
  else
    step certificate "the operator's own"
    cp "$work/files/tls/certificate.pem" "$work/files/tls/key.pem" "$work/"
    openssl x509 -noout -checkhost "$FRONT_HOST" -in "$work/certificate.pem" </dev/null | grep -q 'does match' ||
      refuse "the certificate is not for $FRONT_HOST"
    openssl x509 -noout -checkend 0 -in "$work/certificate.pem" </dev/null >/dev/null ||
      refuse 'the certificate has expired'
    [ "$(openssl x509 -noout -pubkey -in "$work/certificate.pem" </dev/null)" = \
      "$(openssl pkey -pubout -in "$work/key.pem" </dev/null)" ] || refuse 'the certificate and the key do not belong together'
  fi
  replace "$work/key.pem" "$tls/key.pem" 0600
  replace "$work/certificate.pem" "$tls/certificate.pem" 0644
}
