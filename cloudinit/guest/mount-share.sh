# Mounts a directory of the task, at each boot: sh -c "$this" mount-share TYPE TAG DIRECTORY ro|rw
type=$1 tag=$2 directory=$3 access=$4
mountpoint -q "$directory" && exit
mkdir -p "$directory"
case $type in
9p)
	options=trans=virtio,version=9p2000.L,$access,msize=262144
	advice='use an image whose kernel has it'
	;;
*)
	options=$access
	advice='use an image whose kernel has it, or set mounts = "9p" in the config of the task'
	;;
esac
mount -t "$type" -o "$options" "$tag" "$directory" && exit
message="nomad-driver-virt: $directory is not mounted, the kernel of this guest may lack $type: $advice"
echo "$message" >&2
{ echo "$message" >/dev/console; } 2>/dev/null
exit 0
