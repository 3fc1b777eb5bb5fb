# shellcheck shell=bash
# A web server on the other host, which serves the guest images: what a job's
# artifact block fetches from.

web_answers() { inside curl -sf --max-time 2 -o /dev/null -I http://10.99.0.1:8080/tiny.qcow2; }

start_web() {
	is_running web || start_far web busybox httpd -f -p 10.99.0.1:8080 -h /var/lib/virt/images
	if ! until_true 5 web_answers; then
		show_log "$LAB_LOGS/web.log"
		die "the web server does not answer"
	fi
}
