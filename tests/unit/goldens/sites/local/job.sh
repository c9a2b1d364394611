#!/bin/bash
exec bash /scratch/ada/runs/run-00000000/job/body.sh local /scratch/ada/runs/run-00000000
