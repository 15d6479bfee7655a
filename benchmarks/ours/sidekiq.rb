# One Sidekiq worker process that says how fast it drained JOBS jobs: `sidekiq -r ./sidekiq.rb`.
require "json"
require "sidekiq"

Sidekiq.logger.level = Logger::WARN

module Meter
  LOCK = Mutex.new
  @left = Integer(ENV.fetch("JOBS"))
  @began = nil

  def self.cpu
    times = Process.times
    times.utime + times.stime
  end

  def self.tick
    LOCK.synchronize do
      @began ||= [Process.clock_gettime(Process::CLOCK_MONOTONIC), cpu]
      @left -= 1
      finish if @left.zero?
    end
  end

  def self.finish
    jobs = Integer(ENV.fetch("JOBS"))
    took = Process.clock_gettime(Process::CLOCK_MONOTONIC) - @began[0]
    puts JSON.dump(jobs_per_s: jobs / took, cpu_us_per_job: (cpu - @began[1]) / jobs * 1e6)
    $stdout.flush
    exit!(0)
  end
end

class Noop
  include Sidekiq::Worker

  def perform(_text, _n, _options)
    Meter.tick
  end
end
