# Sidekiq's jobs and connection; `sidekiq -r worker.rb` runs them.
require "sidekiq"
require_relative "counting"

options = {url: ENV.fetch("BENCH_REDIS_URL")}
begin
  require "hiredis"
  options[:driver] = :hiredis
rescue LoadError
  warn "no hiredis: the pure Ruby driver is used"
end

Sidekiq.configure_server { |config| config.redis = options }
Sidekiq.configure_client { |config| config.redis = options.merge(size: 32) }

class Noop
  include Sidekiq::Job

  def perform(number)
    Counting.begin
    Counting.end
    number
  end
end

class Nap
  include Sidekiq::Job

  def perform(number)
    Counting.begin
    sleep 0.010
    Counting.end
    number
  end
end

class Stamp
  include Sidekiq::Job

  def perform(sent)
    Counting.picked_up(sent)
    Counting.begin
    Counting.end
  end
end
