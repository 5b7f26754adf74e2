# What `docker run` costs by itself: an image whose one program does nothing, whatever it is told.
FROM scratch
COPY busybox /bin/true
ENTRYPOINT ["/bin/true"]
