# Mounts a directory of the task, at each boot: sh -c "$this" mount-share TYPE TAG DIRECTORY
type=$1 tag=$2 directory=$3
mountpoint -q "$directory" && exit
mkdir -p "$directory"
case $type in
9p)
	options=trans=virtio,version=9p2000.L,ro,msize=262144
	advice='use an image whose kernel has it'
	;;
*)
	options=ro
	advice='use an image whose kernel has it, or set mounts = "9p" in the config of the task'
	;;
esac
mount -t "$type" -o "$options" "$tag" "$directory" && exit
message="nomad-driver-virt: $directory is not mounted, the kernel of this guest may lack $type: $advice"
echo "$message" >&2
{ echo "$message" >/dev/console; } 2>/dev/null
exit 0
