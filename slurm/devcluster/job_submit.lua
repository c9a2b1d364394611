-- What a strict site checks when a job is submitted: https://slurm.schedmd.com/job_submit_plugins.html
-- Words given to log_user reach the person as `sbatch: error: …` lines before sbatch's own refusal.

local function asks_for_gpus(job)
  for _, field in ipairs({"gres", "tres_per_node", "tres_per_job", "tres_per_socket", "tres_per_task"}) do
    if job[field] and string.find(job[field], "gpu") then
      return true
    end
  end
  return false
end

function slurm_job_submit(job, partitions, uid)
  if job.partition == "gpu" and not asks_for_gpus(job) then
    slurm.log_user("partition gpu is for jobs that use GPUs: add --gpus-per-node=1, or take --partition=main")
    return slurm.ERROR
  end
  if job.partition == "once" then
    job.requeue = 0
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
