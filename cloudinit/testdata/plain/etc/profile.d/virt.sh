if [ -r /etc/nomad-virt/env.sh ]; then . /etc/nomad-virt/env.sh; fi
