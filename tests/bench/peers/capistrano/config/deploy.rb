lock "~> 3.17"

set :application, File.basename(Dir.pwd)
set :deploy_to, "/srv/#{fetch(:application)}"
set :ssh_options, config: "#{Dir.pwd}/ssh_config", verify_host_key: :always
append :linked_dirs, "venv"

namespace :host do
  desc "Make what a deploy finds: account, directories, certificate, unit and site"
  task :prepare do
    name = fetch(:application)
    on release_roles(:all) do
      next if test "[ -d #{deploy_to} ]"
      execute :sudo, "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin #{name}"
      execute :sudo, "mkdir -p #{shared_path}/wheels /etc/ssl/#{name}"
      execute :sudo, "chown -R deploy #{deploy_to}"
      execute :sudo, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30",
              "-subj /CN=#{name}.example -addext subjectAltName=DNS:#{name}.example",
              "-keyout /etc/ssl/#{name}/key.pem -out /etc/ssl/#{name}/cert.pem"
      { "#{name}.service" => "/etc/systemd/system", "#{name}.conf" => "/etc/nginx/conf.d" }.each do |file, place|
        upload! "setup/#{file}", "#{shared_path}/#{file}"
        execute :sudo, "mv #{shared_path}/#{file} #{place}/"
      end
      execute :sudo, "systemctl daemon-reload"
      execute :sudo, "systemctl enable #{name}"
      execute :sudo, "nginx -t"
      execute :sudo, "systemctl reload-or-restart nginx"
    end
  end
  before "deploy:starting", "host:prepare"
end

namespace :python do
  desc "Install the release's requirements: pip finds out whether they are there"
  task :install do
    on release_roles(:all) do
      there = capture(:ls, "#{shared_path}/wheels").split
      Dir["wheels/*.whl"].reject { |wheel| there.include? File.basename(wheel) }.each do |wheel|
        upload! wheel, "#{shared_path}/wheels/"
      end
      # The host has no ensurepip, as Debian leaves it out: pip comes as a wheel, which is the quicker way, too.
      python = "#{shared_path}/venv/bin/python"
      execute :python3, "-m venv --without-pip #{shared_path}/venv" unless test "[ -x #{python} ]"
      pip = "PYTHONPATH=$(echo #{shared_path}/wheels/pip-*.whl) python3 -m pip -q --python #{python}"
      execute "#{pip} install --no-index --find-links #{shared_path}/wheels -r #{release_path}/requirements.txt"
    end
  end
  before "deploy:updated", "python:install"
  before "deploy:reverted", "python:install"
end

namespace :service do
  desc "Restart the service, and wait until it answers"
  task :restart do
    name = fetch(:application)
    on release_roles(:all) do
      execute :sudo, "systemctl restart #{name}"
      url = "--resolve #{name}.example:443:127.0.0.1 https://#{name}.example/readyz"
      execute "until curl -sf -o /dev/null --cacert /etc/ssl/#{name}/cert.pem #{url}; do sleep 0.05; done"
    end
  end
  after "deploy:published", "service:restart"
end
