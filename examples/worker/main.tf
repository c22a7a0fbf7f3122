# A queue, one for what cannot be done, and a policy with no more rights than a worker needs.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "bucket" {
  type        = string
  description = "Bucket of the recordings."
}

variable "recordings" {
  type        = string
  default     = "presentations/"
  description = "What the keys of recordings begin with."
}

variable "results" {
  type        = string
  default     = "transcripts/"
  description = "Where jobs.result_prefix writes to."
}

resource "aws_sqs_queue" "dead" {
  name                      = "asr-dead"
  message_retention_seconds = 1209600
}

resource "aws_sqs_queue" "jobs" {
  name                       = "asr-jobs"
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120
  message_retention_seconds  = 345600

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 5 # more than jobs.max_receives: a job that kills its worker is told of by the next one
  })
}

data "aws_iam_policy_document" "worker" {
  statement {
    actions = [
      "sqs:ReceiveMessage",
      "sqs:DeleteMessage",
      "sqs:ChangeMessageVisibility",
      "sqs:GetQueueAttributes",
    ]
    resources = [aws_sqs_queue.jobs.arn]
  }

  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead.arn]
  }

  statement {
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["arn:aws:s3:::${var.bucket}/${var.recordings}*"]
  }

  statement {
    actions   = ["s3:PutObject"]
    resources = ["arn:aws:s3:::${var.bucket}/${var.results}*"]
  }
}

resource "aws_iam_policy" "worker" {
  name   = "asr-worker"
  policy = data.aws_iam_policy_document.worker.json
}

output "queue_url" {
  value = aws_sqs_queue.jobs.url
}

output "dlq_url" {
  value = aws_sqs_queue.dead.url
}
