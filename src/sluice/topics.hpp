/// The catalogue: topics by which services know one another. `server` creates those that something in it reads or
/// writes; `kafka.createCatalogue` all of them.
#pragma once

#include <array>
#include <string_view>

namespace sluice::topics {

// Users
inline constexpr std::string_view user_created = "user.created";
inline constexpr std::string_view user_updated = "user.updated";
inline constexpr std::string_view user_deleted = "user.deleted";
inline constexpr std::string_view user_login = "user.login";
inline constexpr std::string_view user_logout = "user.logout";
// Employees
inline constexpr std::string_view employee_created = "employee.created";
inline constexpr std::string_view employee_updated = "employee.updated";
inline constexpr std::string_view employee_deleted = "employee.deleted";
inline constexpr std::string_view employee_transfer = "employee.transfer";
// Attendance
inline constexpr std::string_view attendance_checkin = "attendance.checkin";
inline constexpr std::string_view attendance_checkout = "attendance.checkout";
inline constexpr std::string_view attendance_approved = "attendance.approved";
// Payroll
inline constexpr std::string_view payroll_processed = "payroll.processed";
inline constexpr std::string_view salary_calculated = "salary.calculated";
inline constexpr std::string_view payroll_approved = "payroll.approved";
// Customers and orders
inline constexpr std::string_view customer_created = "customer.created";
inline constexpr std::string_view customer_updated = "customer.updated";
inline constexpr std::string_view order_created = "order.created";
inline constexpr std::string_view order_updated = "order.updated";
// Sales
inline constexpr std::string_view sale_created = "sale.created";
inline constexpr std::string_view sale_completed = "sale.completed";
inline constexpr std::string_view sale_cancelled = "sale.cancelled";
// Inventory
inline constexpr std::string_view inventory_stock_updated = "inventory.stock.updated";
inline constexpr std::string_view product_created = "product.created";
inline constexpr std::string_view product_updated = "product.updated";
// Notifications
inline constexpr std::string_view notification_send = "notification.send";
inline constexpr std::string_view notification_sent = "notification.sent";
inline constexpr std::string_view email_sent = "email.sent";
inline constexpr std::string_view sms_sent = "sms.sent";
// Documents
inline constexpr std::string_view document_uploaded = "document.uploaded";
inline constexpr std::string_view document_parsed = "document.parsed";
inline constexpr std::string_view document_embedded = "document.embedded";
inline constexpr std::string_view document_approved = "document.approved";
inline constexpr std::string_view document_rejected = "document.rejected";
// Audit
inline constexpr std::string_view audit_event = "audit.event";
inline constexpr std::string_view audit_log = "audit.log";
inline constexpr std::string_view security_event = "security.event";
// Reports
inline constexpr std::string_view report_generate = "report.generate";
inline constexpr std::string_view report_ready = "report.ready";
// The system itself
inline constexpr std::string_view service_health = "service.health";
inline constexpr std::string_view service_error = "service.error";

inline constexpr std::array catalogue{user_created,
                                      user_updated,
                                      user_deleted,
                                      user_login,
                                      user_logout,
                                      employee_created,
                                      employee_updated,
                                      employee_deleted,
                                      employee_transfer,
                                      attendance_checkin,
                                      attendance_checkout,
                                      attendance_approved,
                                      payroll_processed,
                                      salary_calculated,
                                      payroll_approved,
                                      customer_created,
                                      customer_updated,
                                      order_created,
                                      order_updated,
                                      sale_created,
                                      sale_completed,
                                      sale_cancelled,
                                      inventory_stock_updated,
                                      product_created,
                                      product_updated,
                                      notification_send,
                                      notification_sent,
                                      email_sent,
                                      sms_sent,
                                      document_uploaded,
                                      document_parsed,
                                      document_embedded,
                                      document_approved,
                                      document_rejected,
                                      audit_event,
                                      audit_log,
                                      security_event,
                                      report_generate,
                                      report_ready,
                                      service_health,
                                      service_error};

} // namespace sluice::topics
