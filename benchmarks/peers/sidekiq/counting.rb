# Count jobs, and take the time of the first and the last: what counting.py does, for Ruby.
require "json"

module Counting
  EXPECT = Integer(ENV.fetch("BENCH_EXPECT", "0"))
  MARKS = ENV.fetch("BENCH_MARKS", "marks.json")
  LOCK = Mutex.new
  @begun = 0
  @ended = 0
  @latencies = []

  class << self
    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC, :nanosecond)

    def cpu = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID, :nanosecond)

    def begin
      LOCK.synchronize do
        if @begun.zero?
          @first = [now, cpu]
          write("#{MARKS}.first", {pid: Process.pid})
        end
        @begun += 1
      end
    end

    def end
      LOCK.synchronize do
        @ended += 1
        if @ended == EXPECT
          ended = now
          write(MARKS, {began_ns: @first[0], ended_ns: ended, cpu_ns: cpu - @first[1], jobs: EXPECT,
                        latencies_ns: @latencies})
        end
      end
    end

    def picked_up(sent)
      late = now - sent
      LOCK.synchronize { @latencies << late }
    end

    private

    def write(path, content)
      File.write("#{path}.unfinished", JSON.generate(content))
      File.rename("#{path}.unfinished", path)
    end
  end
end
