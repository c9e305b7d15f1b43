# What Fujin needs on a host and would fetch: its `server bootstrap` without the internet, and nginx in the place of its
# Caddy. No single quote may stand in it: it is an argument of sh -c. Standard input is a tar of what the host lacks.
set -eu
name=$1 root=/opt/fujin bin=$HOME/.local/bin
part=$(mktemp -d)
tar -x -C "$part"
cd "$part"

bootstrap() {
  mkdir -p "$bin"
  mv uv "$bin/uv.real"
  # Fujin asks for a Python of uv, and for packages of an index: here are the Python of the host, and the wheels.
  cat >"$bin/uv" <<END
#!/bin/sh
for word; do
  shift
  [ "\$word" = --managed-python ] || set -- "\$@" "\$word"
done
UV_CONFIG_FILE=$root/uv.toml exec $bin/uv.real "\$@"
END
  chmod +x "$bin/uv"
  cat >uv.toml <<END
offline = true
no-index = true
find-links = ["$root/.wheels"]
END
  sudo -n sh -c "groupadd -f fujin
    usermod -aG fujin $(id -un)
    mkdir -p $root/.python $root/.wheels /etc/ssl/$name
    chown root:fujin $root $root/.python $root/.wheels
    chmod 775 $root $root/.python $root/.wheels
    install -m 0644 uv.toml $root/
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=$name.example \
      -addext subjectAltName=DNS:$name.example -keyout /etc/ssl/$name/key.pem -out /etc/ssl/$name/cert.pem 2>/dev/null
    install -m 0644 setup/$name.conf /etc/nginx/conf.d/
    nginx -t -q && systemctl reload-or-restart nginx"
}

[ ! -d setup ] || bootstrap
# On a first deploy this login is older than its membership of the group.
sudo -n cp wheels/*.whl "$root/.wheels/"
cd /
rm -rf "$part"
