# What the limit runs on a host. No single quote may stand in it: it is an argument of sh -c.
set -eu
action=$1 name=$2 id=$3 lock=$4 installer=$5
root=/srv/$name
venv=$root/venvs/$lock

first() {
  sudo -n sh -c "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin $name
    mkdir -p $root/releases $root/venvs /etc/ssl/$name
    chown -R $(id -un) $root
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=$name.example \
      -addext subjectAltName=DNS:$name.example -keyout /etc/ssl/$name/key.pem -out /etc/ssl/$name/cert.pem 2>/dev/null"
}

# Files of root: the unit and the site.
install_setup() {
  sudo -n sh -c "install -m 0644 $1/setup/$name.service /etc/systemd/system/
    install -m 0644 $1/setup/$name.conf /etc/nginx/conf.d/
    systemctl daemon-reload && systemctl enable -q $name && nginx -t -q &&
    if systemctl is-active -q nginx; then systemctl reload nginx; else systemctl start nginx; fi"
}

build() {
  case $installer in
    uv)
      [ ! -f uv ] || mv uv "$root/uv"
      "$root/uv" venv -q --offline --python /usr/bin/python3 "$venv"
      "$root/uv" pip install -q --offline --no-index --find-links wheels --compile-bytecode --python "$venv/bin/python" -r requirements.txt
      ;;
    pip)
      python3 -m venv --without-pip "$venv"
      PYTHONPATH=$(echo wheels/pip-*.whl) python3 -m pip -q --python "$venv/bin/python" install --no-index --find-links wheels -r requirements.txt
      ;;
  esac
}

switch() { # RELEASE
  ln -s "$1" "$root/current.new"
  mv -T "$root/current.new" "$root/current"
  sudo -n systemctl restart "$name"
}

answers() {
  until curl -sf -o /dev/null --cacert "/etc/ssl/$name/cert.pem" --resolve "$name.example:443:127.0.0.1" "https://$name.example/readyz"; do
    sleep 0.02
  done
}

case $action in
  restart) sudo -n systemctl restart "$name" ;;
  rollback)
    former=$(ls -t "$root/releases" | sed -n 2p)
    touch "$root/releases/$former"
    switch "$root/releases/$former"
    ;;
  deploy)
    if [ ! -d "$root/releases/$id" ]; then
      [ -d "$root" ] || first
      part=$root/releases/.part
      rm -rf "$part"
      mkdir "$part"
      tar -x -C "$part"
      cd "$part"
      [ -d "$venv" ] || build
      ln -s "$venv" venv
      [ ! -d setup ] || install_setup "$part"
      rm -rf wheels setup
      cd /
      mv -T "$part" "$root/releases/$id"
      switch "$root/releases/$id"
      ls -t "$root/releases" | sed 1,5d | while read -r old; do rm -rf "$root/releases/$old"; done
    fi
    ;;
esac
answers
