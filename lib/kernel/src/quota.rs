//! Project quota: quotactl_fd(2) and the project id of files (ioctl_xfs_fsgetxattr(2)).
