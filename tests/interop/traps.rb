# What of the jobs in Redis Ruby would stumble over: the traps of Sidekiq's formats, one line each.
module Traps
  TIMES = %w[created_at enqueued_at failed_at retried_at]
  KNOWN = /\A[a-z_:.\-0-9]+\z/i
  MARKUP = /[<>]/

  module_function

  # Every trap that a job at rest falls into, by what is in Redis.
  def found
    all.flat_map { |place, raw| of(place, raw).map { |trap| "#{place}: #{trap}: #{raw[0, 300]}" } }
  end

  def all
    Sidekiq.redis do |redis|
      redis.smembers("queues").flat_map { |name| redis.lrange("queue:#{name}", 0, -1).map { |raw| ["queue", raw] } } +
        %w[schedule retry dead].flat_map { |set| redis.zrange(set, 0, -1).map { |raw| [set, raw] } }
    end
  end

  def of(place, raw)
    job = Sidekiq.load_json(raw)
    return ["no object"] unless job.is_a?(Hash)

    [*bytes(job, raw), *fields(job), *needed(place, job), *names(job), *backtrace(job)]
  rescue => error
    ["#{error.class} #{error.message[0, 100]}"]
  end

  # Ruby finds a job by the bytes that it would write itself.
  def bytes(job, raw)
    again = Sidekiq.dump_json(job)
    (again == raw) ? [] : ["written differently: #{again[0, 300]}"]
  end

  def fields(job)
    times = TIMES.reject { |name| job[name].nil? || job[name].is_a?(Float) }
    traps = times.map { |name| "#{name} is no float" }
    traps << "no class" unless job["class"].is_a?(String)
    traps << "args is no list" unless job["args"].is_a?(Array)
    traps << "no jid" unless job["jid"].is_a?(String)
    traps << "no retry" unless [true, false].include?(job["retry"]) || job["retry"].is_a?(Integer)
    traps << "no queue with a page" unless KNOWN.match?(job["queue"])
    traps << "tags is no list" unless (job["tags"] || []).all?(String)
    traps << "cattr is no object" unless (job["cattr"] || {}).is_a?(Hash)
    traps << "at is still there" if job.key?("at")
    traps
  end

  def needed(place, job)
    return [] unless %w[retry dead].include?(place)

    traps = %w[error_class error_message].reject { |name| job[name].is_a?(String) }
    traps << "retry_count" unless job["retry_count"].is_a?(Integer) && job["retry_count"] >= -1
    traps << "failed_at" if job["failed_at"].nil?
    traps << "retried_at" if job["retry_count"].to_i > 0 && job["retried_at"].nil?
    traps << "error_message is too long" if job["error_message"].to_s.size > 10_000
    traps.map { |name| "no #{name}" }
  end

  # These are put into pages as they are.
  def names(job)
    %w[class display_class error_class].select { |name| MARKUP.match?(job[name].to_s) }.map { |name| "markup in #{name}" }
  end

  def backtrace(job)
    lines = Sidekiq::JobRecord.new(job).error_backtrace || []
    lines.any? { |line| line.match?(/[<>]/) } ? ["markup in the backtrace"] : []
  end

  # Whether reschedule moves each job, and does not double it.
  def doubled
    %w[schedule retry dead].select do |name|
      set = Desk::SETS.fetch(name).new
      before = set.size
      set.each { |job| job.reschedule(job.score + 1) }
      set.size != before
    end
  end

  # The pages that do not answer. What has no jid has no page of its own: its list is shown again.
  def broken
    paths.filter_map do |path|
      answer = Desk.web("GET", path)
      "#{path}: #{answer[:status]} #{answer[:body][0, 300]}" unless [200, 302].include?(answer[:status])
    end
  end

  def paths
    queues = Sidekiq::Queue.all.map(&:name).grep(KNOWN).map { |name| "/queues/#{name}" }
    jobs = {"/retries" => "retry", "/scheduled" => "schedule", "/morgue" => "dead"}.flat_map do |path, name|
      Desk::SETS.fetch(name).new.map { |job| "#{path}/#{job.score}-#{job.jid}" }
    end
    ["/", "/busy", "/queues", "/stats", "/retries", "/scheduled", "/morgue", *queues, *jobs]
  end

  # Ruby's poller moves all that is due; what it said when it did not.
  def promote
    Sidekiq::Scheduled::Enq.new.enqueue_jobs
    nil
  rescue => error
    "#{error.class} #{error.message[0, 300]}"
  end
end
