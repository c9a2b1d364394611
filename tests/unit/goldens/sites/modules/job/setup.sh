module load cuda/12.4 || return
module load 'python/3.11 beta' || return
ulimit -n 65536
