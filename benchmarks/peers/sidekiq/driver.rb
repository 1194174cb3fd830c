# The enqueuing side of Sidekiq; the commands are those of driver.py. It keeps no results, so it has no round_trip.
require "json"
require_relative "worker"

AT_ONCE = 1_000 # as Sidekiq's documentation advises for push_bulk
TASKS = {"noop" => Noop, "nap" => Nap, "stamp" => Stamp}.freeze

def seconds(began) = (Counting.now - began) / 1e9

def bulk(task:, jobs:)
  began = Counting.now
  (0...jobs).each_slice(AT_ONCE) do |numbers|
    Sidekiq::Client.push_bulk("class" => TASKS.fetch(task), "args" => numbers.map { |number| [number] })
  end
  {seconds: seconds(began)}
end

def single(task:, jobs:, in_flight:)
  job = TASKS.fetch(task)
  numbers = (0...jobs).each_slice((jobs / in_flight.to_f).ceil).to_a
  began = Counting.now
  numbers.map { |part| Thread.new { part.each { |number| job.perform_async(number) } } }.each(&:join)
  {seconds: seconds(began)}
end

def paced(jobs:, rate:)
  began = Counting.now
  jobs.times do |number|
    sleep [0, number / rate.to_f - seconds(began)].max
    Stamp.perform_async(Counting.now)
  end
  {seconds: seconds(began)}
end

$stdout.sync = true
Sidekiq.redis(&:ping)
puts JSON.generate(ready: true)
while (line = $stdin.gets)
  command = JSON.parse(line, symbolize_names: true)
  answer =
    begin
      send(command.delete(:do), **command)
    rescue => error
      {error: "#{error.class}: #{error.message}"}
    end
  puts JSON.generate(answer)
end
