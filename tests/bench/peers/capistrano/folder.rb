require "digest"
require "capistrano/scm/plugin"

# The hosts reach no repository: a release is a folder of this machine, which is packed once and uploaded to each.
class Capistrano::SCM::Folder < Capistrano::SCM::Plugin
  def set_defaults
    set_if_empty :archive, "release.tar.gz"
    set_if_empty :contents, %w[code requirements.txt]
  end

  def register_hooks
    after "deploy:new_release_path", "folder:create_release"
    before "deploy:set_current_revision", "folder:set_current_revision"
  end

  def define_tasks
    namespace :folder do
      desc "Pack the folder"
      task :archive do
        run_locally { execute :tar, "--exclude=__pycache__", "-czf", fetch(:archive), *fetch(:contents) }
      end

      desc "Upload the folder into a new release"
      task create_release: :archive do
        on release_roles(:all) do
          there = "#{fetch(:tmp_dir)}/#{fetch(:application)}-#{fetch(:release_timestamp)}.tar.gz"
          upload! fetch(:archive), there
          execute :mkdir, "-p", release_path
          execute :tar, "-xzf", there, "-C", release_path
          execute :rm, there
        end
      end

      desc "Say what is deployed"
      task set_current_revision: :archive do
        set :current_revision, Digest::SHA256.file(fetch(:archive)).hexdigest[0, 12]
      end
    end
  end
end
