# A job of ActiveJob, for where Rails' package is installed.
require "active_job"

ActiveJob::Base.queue_adapter = :sidekiq
ActiveJob::Base.logger = Logger.new(nil)

class Greeting < ActiveJob::Base
  queue_as :default

  def perform(*args)
    tell("ruby", job_id, *args.map(&:inspect))
  end
end
