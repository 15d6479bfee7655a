# Ruby at the other end of a pipe: one question a line in JSON, one answer a line in JSON.
# It is Sidekiq's client, its API and its web page, in one process for all tests.
require "json"

answers = $stdout.dup
$stdout.reopen($stderr)

require_relative "jobs"
require "sidekiq/scheduled"
require "sidekiq/web"
require "rack/mock"

Sidekiq.logger.level = Logger::FATAL

module Desk
  SETS = {"retry" => Sidekiq::RetrySet, "schedule" => Sidekiq::ScheduledSet, "dead" => Sidekiq::DeadSet}
  WEB = Rack::MockRequest.new(Sidekiq::Web.new)
  SESSION = {}

  module_function

  def at(url)
    Sidekiq.redis = {url: url, size: 5}
  end

  def version
    Sidekiq::VERSION
  end

  # -- the client

  def push(item)
    Sidekiq::Client.push(item)
  end

  def push_bulk(items)
    Sidekiq::Client.push_bulk(items)
  end

  # Of a real ActiveJob; with a time as its keyword argument `at`.
  def active_job(name, args)
    require_active_job
    Object.const_get(name).perform_later(*args).job_id
  end

  def active_job_at(name, args, at)
    require_active_job
    Object.const_get(name).perform_later(*args, at: Time.at(at).utc).job_id
  end

  def require_active_job
    require "active_job"
    ENV["WITH_ACTIVEJOB"] = "1"
    load File.join(__dir__, "greeting.rb") unless defined?(Greeting)
  end

  # -- the API: everything that it shows of a thing

  def stats
    one = Sidekiq::Stats.new
    %i[processed failed scheduled_size retry_size dead_size enqueued processes_size workers_size
      default_queue_latency queues].to_h { |name| [name, one.public_send(name)] }
  end

  def history(days)
    one = Sidekiq::Stats::History.new(days)
    {processed: one.processed, failed: one.failed}
  end

  def queues
    Sidekiq::Queue.all.map { |queue| {name: queue.name, size: queue.size, latency: queue.latency} }
  end

  def queue(name)
    Sidekiq::Queue.new(name).map { |job| record(job) }
  end

  def set(name)
    SETS.fetch(name).new.map { |job| record(job).merge(score: job.score, at: job.at.to_f, error: job.error?) }
  end

  def scan(name, text)
    SETS.fetch(name).new.scan(text).map(&:jid)
  end

  def record(job)
    {
      value: job.value, jid: job.jid, klass: job.klass, display_class: job.display_class,
      args: job.args, display_args: job.display_args, queue: job.queue, tags: job.tags,
      latency: job.latency, created_at: job.created_at.to_f, enqueued_at: job.enqueued_at&.to_f,
      error_backtrace: job.error_backtrace,
      **%w[retry_count failed_at retried_at error_class error_message].to_h { |name| [name.to_sym, job[name]] }
    }
  end

  def processes
    Sidekiq::ProcessSet.new.map do |one|
      {identity: one.identity, tag: one.tag, labels: one.labels, queues: one.queues,
       stopping: one.stopping?, attributes: one.instance_variable_get(:@attribs)}
    end
  end

  def threads
    Sidekiq::ProcessSet.new.total_concurrency
  end

  def workers
    Sidekiq::Workers.new.map { |process, thread, work| {process: process, thread: thread, work: work} }
  end

  # -- acts

  def act(name, jid, how, *args)
    found = SETS.fetch(name).new.find { |job| job.jid == jid }
    found&.public_send(how, *args)
    !found.nil?
  end

  def drop(queue, jid)
    Sidekiq::Queue.new(queue).find_job(jid)&.delete
  end

  def signal(identity, how)
    found = Sidekiq::ProcessSet.new.find { |one| one.identity == identity }
    found&.public_send(how)
    !found.nil?
  end

  # One round of Sidekiq's poller.
  def poll
    Sidekiq::Scheduled::Enq.new.enqueue_jobs
  end

  # -- the web page

  def web(method, path, form = {})
    env = {"rack.session" => SESSION, :params => form, "rack.errors" => $stderr}
    answer = WEB.request(method, path, env)
    {status: answer.status, to: answer.headers["Location"], body: scrub(answer.body)}
  rescue => error
    {status: 500, to: nil, body: "#{error.class}: #{error.message} #{error.backtrace.first}"}
  end

  def scrub(text)
    text.dup.force_encoding("UTF-8").scrub
  end
end

require_relative "traps"

def plain(value)
  case value
  when String then Desk.scrub(value)
  when Array then value.map { |one| plain(one) }
  when Hash then value.to_h { |name, one| [name.to_s, plain(one)] }
  when Time then value.to_f
  when Float then value.finite? ? value : value.to_s
  when Integer, true, false, nil then value
  else value.to_s
  end
end

$stdin.each_line do |line|
  name, args = JSON.parse(line)
  answer = begin
    desk = Desk.respond_to?(name) ? Desk : Traps
    {ok: plain(desk.public_send(name, *args))}
  rescue => error
    {error: Desk.scrub("#{error.class}: #{error.message} #{error.backtrace.first(2)}")}
  end
  answers.puts(JSON.generate(answer, max_nesting: false))
  answers.flush
end
