# What a Sidekiq process of the tests runs: `sidekiq -r ./jobs.rb`. It answers through Redis, where
# the tests look. It beats and polls as often as a test can wait for.
require "sidekiq"
require "sidekiq/api"
require "sidekiq/launcher"

# The retry and the scheduled set are looked at ten times a second, from the start on.
Sidekiq.configure_server { |config| config.options[:poll_interval_average] = 0.1 }
Sidekiq::Scheduled::Poller.prepend(Module.new { def initial_wait; end })
Sidekiq::Launcher.send(:remove_const, :BEAT_PAUSE)
Sidekiq::Launcher::BEAT_PAUSE = 0.2

def tell(key, *what)
  Sidekiq.redis { |redis| redis.rpush("test:#{key}", Sidekiq.dump_json(what)) }
end

# Says what it was given.
class Echo
  include Sidekiq::Worker

  def perform(*args)
    tell("ruby", jid, *args)
  end
end

# Fails until a key says that it may succeed.
class Shaky
  include Sidekiq::Worker

  sidekiq_options backtrace: 3
  sidekiq_retry_in { 1_000_000 }

  def perform(name)
    raise ArgumentError, "not yet, #{name}: <b>é</b>" unless Sidekiq.redis { |r| r.exists?("test:calm") }

    tell("ruby", jid, name)
  end
end

# Runs until a key says that it may end.
class Held
  include Sidekiq::Worker

  def perform(name)
    tell("began", jid, name)
    sleep 0.01 until Sidekiq.redis { |r| r.exists?("test:go") }
    tell("ruby", jid, name)
  end
end

require_relative "greeting" if ENV["WITH_ACTIVEJOB"]
