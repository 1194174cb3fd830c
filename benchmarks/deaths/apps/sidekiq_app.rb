# Sidekiq with its defaults; `ruby sidekiq_app.rb send` enqueues one job.
require "sidekiq"

options = {url: ENV.fetch("DEATHS_REDIS_URL")}
Sidekiq.configure_server { |config| config.redis = options }
Sidekiq.configure_client { |config| config.redis = options }

class Hang
  include Sidekiq::Job

  def perform
    log = ENV.fetch("DEATHS_LOG")
    File.write(log, "#{Process.clock_gettime(Process::CLOCK_MONOTONIC)}\n", mode: "a")
    sleep 7200 if File.readlines(log).size == 1
  end
end

Hang.perform_async if ARGV.first == "send"
